"""Names of classes and templates from files, and the prompts made of them."""

import json
from pathlib import Path
from typing import Any

from multimodal.errors import UserError
from multimodal.schema import nearest


def prompt(template: str, name: str) -> str:
    """The template with the class's name in place of `{}` or `{c}`."""
    return template.replace("{c}", "{}").replace("{}", name)


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
