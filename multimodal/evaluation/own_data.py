"""From a user's path, names and templates to the settings of an evaluator."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from multimodal import config
from multimodal.config import from_dict
from multimodal.data.detect import default_fields, detect, parse_holdout, with_picture
from multimodal.data.record import BrokenRecord, Record, look_up
from multimodal.data.sources import open_data, open_source
from multimodal.errors import UserError
from multimodal.evaluation.prompts import read_classes, read_templates
from multimodal.schema import nearest

TASKS = {
    "retrieval": config.Retrieval,
    "zero_shot": config.ZeroShot,
    "linear_probe": config.LinearProbe,
    "knn": config.KNN,
    "accuracy": config.Accuracy,
}
_PROBES = ("linear_probe", "knn")
_NAMES = ("class", "class_name", "category", "json.class", "json.category")  # of a label's name


def evaluator_for(
    task: str,
    *,
    data: str,
    classes: str = "",
    templates: str = "",
    train_data: str = "",
    split: str = "",
    fields: Sequence[str] = (),
    where: Sequence[str] = (),
    holdout: str = "",
    option: Sequence[str] = (),
) -> config.Evaluator:
    """What `python -m multimodal.evaluate --task=...` runs; the arguments are its flags.

    The data are opened. Raises UserError naming the flag that cannot be used.
    """
    if task not in TASKS:
        raise UserError(f"--task={task}: no such task{nearest(task, TASKS)}")
    if not data:
        raise UserError(f"--task={task} needs --data=PATH: a tar, Parquet file, table or folder")
    for flag, value, tasks in (
        ("classes", classes, ("zero_shot", "accuracy")),
        ("templates", templates, ("zero_shot",)),
        ("train_data", train_data, _PROBES),
    ):
        if value and task not in tasks:
            raise UserError(f"--{flag}: {task} does not use it, only {' and '.join(tasks)}")
    if task in _PROBES and bool(train_data) == bool(holdout):
        raise UserError(
            f"--task={task} needs either --train_data=PATH, or --holdout=FIELD:SHARE to test on a "
            "share of --data and train on the rest, such as --holdout=key:0.2"
        )
    reads = "text" if task == "retrieval" else "label"
    asked = dict(_pairs("fields", [f for item in fields for f in item.split(",")]))
    for name in asked:
        if name not in ("image", "text", "label"):
            raise UserError(f"--fields={name}=...: {task} reads image and {reads}")
    names_needed = task == "zero_shot" and not classes
    kept = {name: _alternatives(text) for name, text in _pairs("where", where)}
    held_out = parse_holdout(holdout, keep="test") if holdout else None
    source, given = _named(_source(data, split), asked)
    values: dict[str, Any] = {
        "data": config.Data(
            source=source,
            fields=_fields(f"--data={data}", source, reads, given, names_needed),
            where=kept,
            holdout=held_out,
        )
    }
    _check(f"--data={data}", values["data"])
    if train_data:
        other, given = _named(_source(train_data, ""), asked)
        found = _fields(f"--train_data={train_data}", other, reads, given, False)
        values["train"] = config.Data(source=other, fields=found, where=kept)
        _check(f"--train_data={train_data}", values["train"])
    if task == "zero_shot":
        names, labels = read_classes(classes) if classes else ((), ())
        values |= {"classes": names, "labels": labels}
        if templates:
            values["templates"] = read_templates(templates)
    if task == "accuracy" and classes:
        values["classes"] = read_classes(classes)[0]
    for name, text in _pairs("option", option):
        if name in ("data", "train", "kind", "every"):
            raise UserError(f"--option={name}={text}: {name} is not an option here")
        values[name] = _parsed(text)
    return from_dict(TASKS[task], values, "--option")


def _source(path: str, split: str) -> config.Source:
    source = detect(path)
    if split and not hasattr(source, "split"):
        raise UserError(f"--split={split}: {path} ({source.kind}) has no splits")
    return dataclasses.replace(source, split=split) if split else source


def _named(source: config.Source, asked: dict[str, str]) -> tuple[config.Source, dict[str, str]]:
    """A source with the picture where --fields says, and the fields that this makes of them."""
    given = dict(asked)
    return with_picture(source, given, given["image"]) if "image" in given else source, given


def _fields(
    flag: str, source: config.Source, reads: str, given: Mapping[str, str], names_needed: bool
) -> dict[str, str]:
    """Where image and text, or image and label, lie: as given, else by their usual names."""
    record = _first(source)
    usual = default_fields(source)
    names = [name for name in _NAMES if isinstance(_value(record, name), (str, bytes))]
    if names_needed and names:
        usual["label"] = names[0]
    found = usual | given
    for name in ("image", reads):
        if name not in found:
            raise UserError(
                f"{flag}: no field of {name}s among {', '.join(map(str, record))}; say which it is "
                f"with --fields={name}=FIELD"
            )
    label = _value(record, found.get("label", ""))
    if names_needed and label is not None and not isinstance(label, (str, bytes)):
        raise UserError(
            f"{flag}: its labels, in {found['label']!r}, are not names; give these with "
            "--classes=FILE.json, or a field that has them with --fields=label=FIELD"
        )
    return {name: found[name] for name in ("image", reads)}


def _check(flag: str, data: config.Data) -> None:
    """Opens the data once, before anything is compiled."""
    record = _first(data.source)
    for name in [*data.where, *([data.holdout.by] if data.holdout else [])]:
        if record and _value(record, name) is None:
            raise UserError(f"{flag}: no field {name!r} among {', '.join(map(str, record))}")
    try:
        open_data(data)
    except UserError as error:
        raise UserError(f"{flag}: {error}") from error


def _pairs(flag: str, given: Sequence[str]) -> list[tuple[str, str]]:
    pairs = []
    for item in given:
        name, _, value = item.partition("=")
        if not name or not value:
            raise UserError(f"--{flag}={item}: write it as --{flag}=NAME=VALUE")
        pairs.append((name, value))
    return pairs


def _alternatives(text: str) -> tuple[int | str, ...]:
    """`a|b`; what looks like a number may be one."""
    values = text.split("|")
    return (*values, *(int(v) for v in values if v.lstrip("-").isdecimal()))


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _first(source: config.Source) -> Record:
    """The first readable record, whole; {} where there is none, which `open_data` tells of."""
    records = open_source(source)
    for index in range(min(len(records), 16)):
        try:
            return records[index]
        except BrokenRecord:
            continue
    return {}


def _value(record: Record, path: str) -> Any:
    try:
        return look_up(record, path)
    except KeyError:
        return None
