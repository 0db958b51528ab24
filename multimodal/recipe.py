"""Recipes: from a file in `configs/` (or a saved run) to a checked Config."""

import dataclasses
import importlib.util
import json
import types
import typing
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict, config_dict

from multimodal.config import Config, check
from multimodal.errors import UserError
from multimodal.schema import field_types, from_dict, nearest, to_dict


def resolve(values: dict[str, Any]) -> ConfigDict:
    """The recipe's settings with every default filled in, as `get_config` returns them.

    Each setting then exists, so that `--config.a.b=value` can change it. Raises UserError.
    """
    config = from_dict(Config, values)
    return ConfigDict(_with_placeholders(config))


def parse_arg(arg: str, **defaults: Any) -> ConfigDict:
    """Options after the colon of `--config=FILE:key=value,...`, typed as their defaults are."""
    options = dict(defaults)
    for item in filter(None, arg.split(",")):
        key, equals, text = item.partition("=")
        if key not in defaults:
            raise UserError(f"recipe option {key!r} does not exist{nearest(key, defaults)}")
        options[key] = _parse(text if equals else "true", type(defaults[key]), key)
    return ConfigDict(options)


def load(path: str, arg: str = "") -> ConfigDict:
    """Reads `get_config(arg)` of a recipe file, or the `config.json` that a run has saved."""
    file = Path(path)
    if not file.exists():
        raise UserError(f"no recipe at {path}; see configs/ for those that exist")
    if file.suffix == ".json":
        return resolve(json.loads(file.read_text()))
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(arg)


def finish(values: ConfigDict) -> Config:
    """The frozen, checked Config. Raises UserError."""
    config = from_dict(Config, values.to_dict())
    check(config)
    return config


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
        return to_dict(value)
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
