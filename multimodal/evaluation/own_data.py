"""From a user's path, names and templates to the settings of an evaluator."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from multimodal import config
from multimodal.config import from_dict
from multimodal.data.detect import default_fields, detect
from multimodal.data.record import BrokenRecord, Record, look_up
from multimodal.data.sources import open_data, open_source
from multimodal.errors import UserError
from multimodal.schema import nearest

TASKS = {
    "retrieval": config.Retrieval,
    "zero_shot": config.ZeroShot,
    "linear_probe": config.LinearProbe,
    "knn": config.KNN,
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
        ("classes", classes, ("zero_shot",)),
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
    split_fields = [field for item in fields for field in item.split(",")]
    given = _pairs("fields", split_fields, ("image", "text", "label"))
    own = _data("data", data, reads, given, where, holdout, split, named=bool(classes))
    values: dict[str, Any] = {"data": own}
    if task == "zero_shot":
        names, labels = read_classes(classes) if classes else ((), ())
        values |= {"classes": names, "labels": labels}
        if templates:
            values["templates"] = read_templates(templates)
    if train_data:
        values["train"] = _data("train_data", train_data, reads, given, where, "", "", named=True)
    for name, text in _pairs("option", option).items():
        if name in ("data", "train", "kind", "every"):
            raise UserError(f"--option={name}={text}: {name} is not an option here")
        values[name] = _parsed(text)
    return from_dict(TASKS[task], values, "--option")


def read_classes(path: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the classes, and their labels where these are not 0, 1, ...

    A JSON list of names, a table from label to name, or CLIP_benchmark's table from data set to
    list (`FILE:DATASET` where it has several). Raises UserError.
    """
    found = _entry("classes", path, _json("classes", *_split(path)))
    if isinstance(found, dict):
        names, labels = list(found.values()), list(found)
    else:
        names, labels = found, []
    if not isinstance(names, list) or not all(isinstance(n, str) and n.strip() for n in names):
        raise UserError(f"--classes={path}: neither a list of names nor a table from label to name")
    if len(names) < 2:
        raise UserError(f"--classes={path}: names {len(names)} of at least two classes")
    return tuple(names), tuple(labels)


def read_templates(path: str) -> tuple[str, ...]:
    """Templates of a file: one a line, a JSON list, or CLIP_benchmark's table from data set to list
    (`FILE:DATASET` where it has several). Raises UserError, as for one without `{}` or `{c}`."""
    file, _ = _split(path)
    if file.suffix == ".json":
        templates = _entry("templates", path, _json("templates", *_split(path)))
    else:
        templates = [line.strip() for line in _text("templates", file).splitlines()]
        templates = [line for line in templates if line]
    if not isinstance(templates, list) or not all(isinstance(t, str) for t in templates):
        raise UserError(f"--templates={path}: not a list of texts")
    if not templates:
        raise UserError(f"--templates={path}: holds no template")
    for template in templates:
        if "{}" not in template and "{c}" not in template:
            raise UserError(f"--templates={path}: {template!r} has no {{}} for the name")
    return tuple(templates)


def _data(
    flag: str,
    path: str,
    reads: str,
    fields: Mapping[str, str],
    where: Sequence[str],
    holdout: str,
    split: str,
    named: bool,
) -> config.Data:
    """The records of `path` with the fields that a task reads; opened, so that it can be used."""
    source = detect(path)
    if split:
        if not hasattr(source, "split"):
            raise UserError(f"--split={split}: {path} ({source.kind}) has no splits")
        source = dataclasses.replace(source, split=split)
    record = _first(source)
    usual = default_fields(source)
    texts = [n for n in _NAMES if isinstance(_value(record, n), (str, bytes))]
    if reads == "label" and not named and texts:
        usual["label"] = texts[0]  # a name needs no file of names
    fields = usual | dict(fields)
    for name in ("image", reads):
        if name not in fields:
            raise UserError(
                f"--{flag}={path}: no field of {name}s among {', '.join(map(str, record))}; say "
                f"which it is with --fields={name}=FIELD"
            )
    data = config.Data(
        source=source,
        fields={name: fields[name] for name in ("image", reads)},
        where={name: _alternatives(text) for name, text in _pairs("where", where).items()},
        holdout=_holdout(holdout) if holdout else None,
    )
    try:
        open_data(data)
    except UserError as error:
        raise UserError(f"--{flag}={path}: {error}") from error
    return data


def _holdout(text: str) -> config.Holdout:
    by, _, share = text.rpartition(":")
    try:
        number = float(share)
    except ValueError:
        number = 0.0
    if not by or not 0 < number < 1:
        raise UserError(
            f"--holdout={text}: give a field and the share of its values to test on, such as "
            "key:0.2"
        )
    return config.Holdout(by=by, share=number, keep="test")


def _pairs(flag: str, given: Sequence[str], known: Sequence[str] = ()) -> dict[str, str]:
    pairs = {}
    for item in given:
        name, equals, value = item.partition("=")
        if not equals or not name or not value:
            raise UserError(f"--{flag}={item}: write it as --{flag}=NAME=VALUE")
        if known and name not in known:
            raise UserError(
                f"--{flag}={item}: this task does not read {name!r}{nearest(name, known)}"
            )
        pairs[name] = value
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


def _split(path: str) -> tuple[Path, str]:
    """FILE:ENTRY in two; a file that has a colon in its name stays whole."""
    file, _, entry = path.rpartition(":")
    whole = not file or Path(path).expanduser().exists()
    return Path(path if whole else file).expanduser(), "" if whole else entry


def _json(flag: str, file: Path, entry: str) -> Any:
    try:
        found = json.loads(_text(flag, file))
    except ValueError as error:
        raise UserError(f"--{flag}: {file} is not JSON: {error}") from None
    if entry:
        if not isinstance(found, dict) or entry not in found:
            known = nearest(entry, found) if isinstance(found, dict) else ""
            raise UserError(f"--{flag}: {file} has no entry {entry!r}{known}")
        return {entry: found[entry]}
    return found


def _entry(flag: str, path: str, found: Any) -> Any:
    """The list of a table that has one; several need a choice."""
    if not isinstance(found, dict) or not any(isinstance(v, list) for v in found.values()):
        return found
    if len(found) > 1:
        raise UserError(
            f"--{flag}={path}: choose one of its {len(found)} lists with --{flag}={path}:NAME, "
            f"such as {next(iter(found))}"
        )
    return next(iter(found.values()))


def _text(flag: str, file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"--{flag}: cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"--{flag}: {file} is not UTF-8 text: {error}") from None


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
