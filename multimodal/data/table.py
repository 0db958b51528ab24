"""A CSV, TSV or JSONL file whose rows name pictures; only the place of each row stays in memory."""

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from multimodal.data.record import BrokenRecord, Record, wanted
from multimodal.errors import UserError
from multimodal.schema import nearest

# What the column that names the picture is usually called.
_NAMES = ("file_name", "filename", "file", "filepath", "image_path", "path", "image", "img")


class TableSource:
    """Rows of a CSV, TSV or JSONL file, with the bytes of the picture that each names as `image`.

    `image` names the column with the picture's path, relative to `folder`; empty: the first usual
    name there is, or none. That column becomes the record's `key`; the others keep their names, as
    text (CSV, TSV) or as they are (JSONL). The header decides between comma, semicolon and tab.
    Raises UserError for a file or a column that is missing, and a header or quote that is wrong.
    """

    def __init__(
        self, path: str, folder: str = "", image: str = "", fields: Iterable[str] | None = None
    ):
        self.path, self.folder = path, folder or os.path.dirname(path)
        self._fields = None if fields is None else tuple(fields)
        self._is_json = path.lower().endswith((".jsonl", ".ndjson", ".json"))
        try:
            with open(path, "rb") as file:
                head = file.read(4)
                if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
                    raise UserError(f"data.source: {path} is UTF-16; save it as UTF-8")
                if self._is_json and head.startswith(b"["):
                    raise UserError(f"data.source: {path} is one JSON list; write a line a record")
                file.seek(3 if head.startswith(b"\xef\xbb\xbf") else 0)
                self._read_header(file)
        except OSError as error:
            raise UserError(f"data.source: cannot read {path}: {error.strerror}") from None
        self._image = self._image_column(image)
        self._check_first()

    def _read_header(self, file: io.BufferedReader) -> None:
        """The columns, the delimiter, and where each row begins and ends, in bytes."""
        if self._is_json:
            places, start = [], file.tell()
            for line in file:
                if line.strip():
                    places.append((start, start + len(line)))
                start += len(line)
            self._places = np.array(places, np.int64).reshape(-1, 2)
            first = next((r for r in map(self._json, range(min(len(self), 16))) if r), {})
            self._columns = list(first)
            return
        start = file.tell()
        line = file.readline().decode(errors="surrogateescape")
        file.seek(start)
        self._delimiter = max(",;\t", key=line.count)
        rows = _rows(file, self._delimiter, self.path)
        self._columns = [name.strip() for name in next(rows, ([], 0, 0))[0]]
        twice = {name for name in self._columns if self._columns.count(name) > 1}
        if twice or not any(self._columns):
            what = f"names {sorted(twice)} twice" if twice else "is empty"
            raise UserError(f"data.source: the header of {self.path} {what}")
        self._places = np.array([place for row, *place in rows if row], np.int64).reshape(-1, 2)

    def _image_column(self, image: str) -> str:
        if image and image not in self._columns:
            known = nearest(image, self._columns)
            raise UserError(f"data.source.image: {self.path} has no column {image!r}{known}")
        lower = {name.lower(): name for name in reversed(self._columns)}
        image = image or next((lower[name] for name in _NAMES if name in lower), "")
        for name in () if image else self._columns:
            if name and os.path.isfile(os.path.join(self.folder, name)):
                raise UserError(
                    f"data.source: the first line of {self.path} has to name the columns, such as "
                    f"file,caption; it is a row, of {name}"
                )
        return image

    def _check_first(self) -> None:
        """A wrong folder or form is said at once, not record by record."""
        problem = "it has no rows"
        for i in range(min(len(self), 16)):
            try:
                path = self._picture(self._row(i))
            except BrokenRecord as error:
                problem = f"none of its first rows can be read, such as {error}"
                continue
            if not self._image or os.path.isfile(path):
                return
            problem = f"none of the first pictures in column {self._image!r} is there, as {path}"
        raise UserError(f"data.source: {self.path}: {problem}")

    @property
    def shards(self) -> int:
        """Rows can be read alone: each counts."""
        return len(self)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Record:
        if not 0 <= index < len(self):
            raise IndexError(index)
        row = self._row(index)
        key = str(row.get(self._image or "key") or self._key(index))
        record = {"key": key}
        record |= {
            n: v
            for n, v in row.items()
            if n not in ("key", self._image) and wanted(n, self._fields)
        }
        if self._image and wanted("image", self._fields):
            record["image"] = read_picture(self._picture(row), key)
        return record

    def _picture(self, row: dict[str, Any]) -> str:
        return os.path.join(self.folder, str(row.get(self._image) or ""))

    def _key(self, index: int) -> str:
        return f"{Path(self.path).name}/{index}"

    def _row(self, index: int) -> dict[str, Any]:
        if self._is_json:
            row = self._json(index)
            if row is None:
                raise BrokenRecord(self._key(index), "the line is no JSON object")
            return row
        try:
            text = io.StringIO(self._raw(index).decode(), newline="")
            values = next(csv.reader(text, delimiter=self._delimiter, strict=True))
        except UnicodeDecodeError as error:
            raise BrokenRecord(self._key(index), f"is not UTF-8: {error}") from None
        if len(values) != len(self._columns):
            raise BrokenRecord(
                self._key(index), f"has {len(values)} columns, the header {len(self._columns)}"
            )
        return dict(zip(self._columns, values, strict=True))

    def _json(self, index: int) -> dict[str, Any] | None:
        try:
            row = json.loads(self._raw(index))
        except ValueError:
            return None
        return row if isinstance(row, dict) else None

    def _raw(self, index: int) -> bytes:
        start, stop = self._places[index].tolist()
        with open(self.path, "rb") as file:
            return os.pread(file.fileno(), stop - start, start)


def read_picture(path: str, key: str) -> bytes:
    """The bytes of a file. Raises BrokenRecord."""
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise BrokenRecord(key, f"cannot read {path}: {why}") from None


def _rows(file: Iterable[bytes], delimiter: str, path: str) -> Iterator[tuple[list[str], int, int]]:
    """Each row of a CSV with the bytes where it begins and ends."""
    stop = file.tell()
    line, first = 0, 1

    def lines() -> Iterator[str]:
        nonlocal stop, line
        for raw in file:
            stop, line = stop + len(raw), line + 1
            yield raw.decode(errors="surrogateescape")

    start = stop
    try:
        for row in csv.reader(lines(), delimiter=delimiter, strict=True):
            yield row, start, stop
            start, first = stop, line + 1
    except csv.Error as error:
        row = f"in the row that begins at line {first}; is a quote never closed?"
        raise UserError(f"data.source: {path}, line {line}: {error} {row}") from None
