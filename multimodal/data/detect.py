"""What a user's path holds: the source to read it with, and the fields that a model would read."""

import dataclasses
import os
import re
from pathlib import Path
from typing import Literal

from multimodal import config
from multimodal.data.paths import expand
from multimodal.data.record import BrokenRecord, Record, look_up
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
    """`Data.fields` by the usual names among those of the first readable records.

    image, text and label, each where a record has one; a model may need more than are found.
    """
    records = _first(source, data_dir)
    fields = {}
    capitals = {own.lower(): own for record in records for own in record}
    for field, names in _USUAL.items():
        found = [name for name in names if any(_has(record, name) for record in records)]
        found += [capitals[name] for name in names if name in capitals]
        if found:
            fields[field] = found[0]
    return fields


def names(source: config.Source, data_dir: str = "") -> str:
    """What the first readable records have, for a message that asks for a field."""
    found = {name: None for record in _first(source, data_dir) for name in record if name != "key"}
    return ", ".join(name if len(name) < 40 else f"{name[:40]}..." for name in found)


def with_picture(source: config.Source, fields: dict[str, str], name: str) -> config.Source:
    """The source with the picture in `name`: put among `fields`, or said to a folder, whose table
    has a column of that name, while its records have `image`."""
    if isinstance(source, config.Folder) and name != "image":
        fields["image"] = "image"
        return dataclasses.replace(source, image=name)
    fields["image"] = name
    return source


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


def _first(source: config.Source, data_dir: str) -> list[Record]:
    opened, found = open_source(source, data_dir), []
    for index in range(min(len(opened), 16)):
        try:
            found.append(opened[index])
        except BrokenRecord as error:
            problem = error
    if not found:
        why = f"the first records cannot be read: {problem}" if len(opened) else "it has no records"
        raise UserError(f"data: {getattr(source, 'path', source)}: {why}")
    return found


def _has(record: dict, name: str) -> bool:
    try:
        look_up(record, name)
    except KeyError:
        return False
    return True


def parse_holdout(text: str, keep: Literal["train", "test"]) -> config.Holdout:
    """One side of a split written FIELD:SHARE or FIELD:SHARE:SEED, such as `key:0.2`.

    Raises UserError for anything else.
    """
    written = re.fullmatch(r"(?P<by>.+?):(?P<share>[\d.]+)(:(?P<seed>\d+))?", text)
    try:
        share = float(written["share"]) if written else 0.0
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise UserError(
            f"--holdout={text}: give a field and the share of its values to test on, such as "
            "key:0.2, and, if not 0, the seed of the split, as in key:0.2:1"
        )
    return config.Holdout(by=written["by"], share=share, keep=keep, seed=int(written["seed"] or 0))
