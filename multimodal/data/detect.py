"""What a user's path holds: the source to read it with, and the fields that a model would read."""

import os
from pathlib import Path

from multimodal import config
from multimodal.data.paths import expand
from multimodal.data.record import BrokenRecord, Source, look_up
from multimodal.data.sources import open_source
from multimodal.errors import UserError

_TABLES = (".csv", ".tsv", ".jsonl", ".ndjson")
_USUAL = {
    "image": ("jpg|jpeg|png|webp", "image", "img", "picture"),
    "text": (
        *("txt", "text", "caption", "captions", "sentence", "title", "alt"),
        *("json.caption", "json.captions", "json.text"),
    ),
    "label": ("cls", "label", "labels", "class_id", "json.label"),
}


def detect(path: str) -> config.Source:
    """The source that fits a file, a pattern, several joined by `::`, or a folder.

    Raises UserError for a path that does not exist or that nothing here can read.
    """
    path = "::".join(str(Path(one).expanduser().absolute()) for one in path.split("::"))
    if os.path.isdir(path):
        return _folder(path)
    if not os.path.exists(path) and not any(sign in path for sign in ("::", "*", "{")):
        raise UserError(f"data: no such file or folder: {path}")
    first = expand(path)[0]
    name = os.path.basename(first).lower()
    if name.endswith(".tar"):
        return config.Tar(path)
    if name.endswith((".parquet", ".pq")):
        return config.Parquet(path)
    if ".array_record" in name:
        return config.ArrayRecords(path)
    if name.endswith(_TABLES) and first == path:
        return config.Folder(path)
    raise UserError(
        f"data: cannot tell what {path} is; known are .tar, .parquet, .array_record, .csv, .tsv, "
        ".jsonl and folders"
    )


def default_fields(source: config.Source, data_dir: str = "") -> dict[str, str]:
    """`Data.fields` by the usual names among those of the first readable record.

    image, text and label, each where the record has one; a model may need more than are found.
    """
    record = _first(open_source(source, data_dir))
    fields = {}
    for field, names in _USUAL.items():
        found = [name for name in names if _has(record, name)]
        if found:
            fields[field] = found[0]
    return fields


def _folder(path: str) -> config.Source:
    names = os.listdir(path)
    if "features.json" in names and "dataset_info.json" in names:
        return config.Tfds(path)
    if "state.json" in names or "dataset_dict.json" in names:
        return config.HuggingFace(path)
    for ending, kind in (
        (".tar", config.Tar),
        (".parquet", config.Parquet),
        (".array_record", config.ArrayRecords),
    ):
        if any(name.endswith(ending) for name in names):
            return kind(path)
    return config.Folder(path)


def _first(source: Source) -> dict:
    for index in range(min(len(source), 16)):
        try:
            return source[index]
        except BrokenRecord as error:
            problem = error
    if len(source):
        raise UserError(f"data: the first records cannot be read: {problem}")
    raise UserError("data: there are no records")


def _has(record: dict, name: str) -> bool:
    try:
        look_up(record, name)
    except KeyError:
        return False
    return True
