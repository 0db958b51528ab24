"""Recipes: from a file in `configs/` (or a saved run) to a checked Config."""

import dataclasses
import importlib.util
import json
import traceback
import types
import typing
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict, config_dict

from multimodal.checks import check
from multimodal.config import Config
from multimodal.errors import UserError
from multimodal.schema import field_types, from_dict, nearest, to_dict


def resolve(values: dict[str, Any]) -> ConfigDict:
    """The recipe's settings with every default filled in, as `get_config` returns them.

    Each setting then exists, so that `--config.a.b=value` can change it. Raises UserError.
    """
    config = from_dict(Config, values)
    return ConfigDict(_with_placeholders(config), allow_dotted_keys=True)


def parse_arg(arg: str, **defaults: Any) -> ConfigDict:
    """Options after the colon of `--config=FILE:key=value,...`, typed as their defaults are.

    A default that is a tuple lists the values allowed, the default first. Raises UserError.
    """
    options = {k: v[0] if isinstance(v, tuple) else v for k, v in defaults.items()}
    for item in filter(None, arg.split(",")):
        key, equals, text = item.partition("=")
        if key not in defaults:
            raise UserError(f"recipe option {key!r} does not exist{nearest(key, defaults)}")
        options[key] = _parse(text if equals else "true", type(options[key]), key)
        if isinstance(defaults[key], tuple) and options[key] not in defaults[key]:
            raise UserError(f"recipe option {key}={text!r}{nearest(text, defaults[key])}")
    return ConfigDict(options)


def load(path: str, arg: str = "") -> ConfigDict:
    """Reads `get_config(arg)` of a recipe file, or the `config.json` that a run has saved."""
    file = Path(path)
    if not file.is_file():
        raise UserError(f"no recipe at {path}; see configs/ for those that exist")
    if file.suffix == ".json":
        try:
            return resolve(json.loads(file.read_text()))
        except ValueError as error:
            raise UserError(f"{path} is not a saved config: {error}") from error
    if file.suffix != ".py":
        raise UserError(f"{path}: a recipe is a .py file, or the config.json of an earlier run")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        config = module.get_config(arg)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{_line_of(error, file)}: {_told(error)}") from error
    if not isinstance(config, ConfigDict):
        raise UserError(
            f"{path}: get_config returned {type(config).__name__}, not resolve({{...}})"
        )
    return config


def finish(values: ConfigDict) -> Config:
    """The frozen, checked Config. Raises UserError."""
    config = from_dict(Config, values.to_dict())
    check(config)
    return config


def first_change(old: Config, new: Config) -> str | None:
    """The first setting that differs and that a run may not change on its way, with both values.

    What decides the parameters, the signals or the order of the data stays as it is; the length of
    the run, and where and how it is computed, may change.
    """
    fixed = ("model", "preprocessing", "tasks", "optimizer", "ema", "batch_size", "seed", "start")
    fixed += ("lora",)
    changes = (_difference(getattr(old, n), getattr(new, n), f"config.{n}") for n in fixed)
    return next(filter(None, changes), None)


# Settings of models, objectives and data that say how something is computed, not what.
_HOW = {"workers", "max_broken", "keep", "scan", "attention", "form", "chunk", "offload"}


def _difference(old: Any, new: Any, where: str) -> str | None:
    if old == new:
        return None
    old_parts, new_parts = _named_parts(old), _named_parts(new)
    if type(old) is not type(new) or old_parts.keys() != new_parts.keys() or not old_parts:
        return f"{where} was {_brief(old)} and is now {_brief(new)}"
    names = (name for name in old_parts if name not in _HOW)
    found = (_difference(old_parts[n], new_parts[n], f"{where}.{n}") for n in names)
    return next(filter(None, found), None)


def _named_parts(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else getattr(value, "__dict__", {})


def _brief(value: Any) -> str:
    if parts := _named_parts(value):
        return "{" + ", ".join(parts) + "}"
    return repr(value)


def _line_of(error: Exception, file: Path) -> str:
    """FILE:LINE, the last of the recipe's own lines that led to `error`."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}"
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(file)]
    return f"{file}:{lines[-1]}" if lines else str(file)


def _told(error: Exception) -> str:
    text = error.msg if isinstance(error, SyntaxError) else " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"


def _parse(text: str, kind: type, key: str) -> Any:
    try:
        if kind is bool:
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        return kind(text)
    except (KeyError, ValueError):
        raise UserError(f"recipe option {key}={text!r} is not a {kind.__name__}") from None


def _with_placeholders(value: Any) -> Any:
    """As `to_dict`, with a typed placeholder where an Optional setting is None."""
    if not dataclasses.is_dataclass(value):
        if isinstance(value, dict):
            return {k: _with_placeholders(v) for k, v in value.items()}
        return tuple(map(to_dict, value)) if isinstance(value, tuple) else value
    result = {}
    for name, hint in field_types(type(value)).items():
        inner = getattr(value, name)
        kinds = [k for k in typing.get_args(hint) if k is not type(None)]
        optional = isinstance(hint, types.UnionType) and len(kinds) == 1
        if inner is None and optional and kinds[0] in (int, float, str):
            result[name] = config_dict.placeholder(kinds[0])
        else:
            result[name] = _with_placeholders(inner)
    return result
