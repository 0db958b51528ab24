"""A folder of pictures: named by a table, with texts beside them, or sorted by class."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from multimodal.data.record import BrokenRecord, Record, wanted
from multimodal.data.table import TableSource, read_picture
from multimodal.errors import UserError

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
TABLES = (".csv", ".tsv", ".jsonl", ".ndjson")


class FolderSource:
    """The pictures below a folder, by name, with what their places say of them.

    With texts beside them (`a.jpg`, `a.txt`) a record has `text`; else with a folder a class
    (`cat/1.jpg`) it has `class`, the first folder's name, and `label`, its number among the sorted
    names. Raises UserError where there is no picture.
    """

    def __init__(self, folder: str, fields: Iterable[str] | None = None):
        self.folder = folder
        self._fields = None if fields is None else tuple(fields)
        names = sorted(_walk(folder))
        self._pictures = [name for name in names if name.lower().endswith(PICTURES)]
        if not self._pictures:
            raise UserError(f"data.source: no picture and no table in the folder {folder}")
        texts = {name for name in names if name.endswith(".txt")}
        self._has_texts = any(_text_of(name) in texts for name in self._pictures)
        parents = sorted({name.partition("/")[0] for name in self._pictures if "/" in name})
        in_classes = not self._has_texts and all("/" in name for name in self._pictures)
        self._classes = {name: i for i, name in enumerate(parents)} if in_classes else {}

    @property
    def shards(self) -> int:
        return len(self)

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: int) -> Record:
        if not 0 <= index < len(self):
            raise IndexError(index)
        name = self._pictures[index]
        record: Record = {"key": name}
        if self._classes:
            parent = name.partition("/")[0]
            record |= {"class": parent, "label": self._classes[parent]}
        if self._has_texts and wanted("text", self._fields):
            path = os.path.join(self.folder, _text_of(name))
            try:
                record["text"] = Path(path).read_text(encoding="utf-8-sig").strip()
            except FileNotFoundError:
                pass
            except (OSError, UnicodeDecodeError) as error:
                raise BrokenRecord(name, f"cannot read {path}: {error}") from None
        if wanted("image", self._fields):
            record["image"] = read_picture(os.path.join(self.folder, name), name)
        return record


def open_folder(
    path: str, table: str = "", image: str = "", fields: Iterable[str] | None = None
) -> TableSource | FolderSource:
    """The table in a folder when there is one, else its pictures; `path` may be the table itself.

    Raises UserError when there are several tables and `table` does not say which.
    """
    path = os.path.expanduser(path)
    if os.path.isfile(path):
        return TableSource(path, "", image, fields)
    if not os.path.isdir(path):
        raise UserError(f"data.source.path: no such folder or table: {path}")
    if not table:
        found = sorted(name for name in os.listdir(path) if name.lower().endswith(TABLES))
        if len(found) > 1:
            raise UserError(
                f"data.source.table: say which of the tables in {path}, or give the path of one: "
                f"{', '.join(found)}"
            )
        if not found:
            if image:
                raise UserError(f"data.source.image={image!r}: there is no table in {path}")
            return FolderSource(path, fields)
        table = found[0]
    return TableSource(os.path.join(path, table), path, image, fields)


def _text_of(picture: str) -> str:
    return picture.rpartition(".")[0] + ".txt"


def _walk(folder: str) -> Iterator[str]:
    """Files below a folder, relative to it, without hidden ones."""
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith("."):
                yield os.path.relpath(os.path.join(parent, name), folder)
