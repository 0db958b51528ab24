"""Plain dictionaries to frozen dataclasses and back, refusing what the dataclasses do not name.

A field may hold a bool, int, float, str, a Literal, an Optional, a tuple, a dict with string keys,
another dataclass, or a union of dataclasses told apart by their `kind` field.
"""

import dataclasses
import difflib
import functools
import types
import typing
from typing import Any, TypeVar

from multimodal.errors import UserError

T = TypeVar("T")


def from_dict(cls: type[T], values: Any, where: str = "config") -> T:
    """Instance of the dataclass `cls` from nested dictionaries.

    `where` is the dotted path that messages begin with. Raises UserError for an unknown key (naming
    the nearest right one), a missing key, a wrong type or a value outside a Literal.
    """
    if isinstance(values, cls):
        return values
    if not isinstance(values, dict):
        raise UserError(f"{where}: expected a table of settings, got {values!r}")
    hints = field_types(cls)
    for key in values:
        if key not in hints:
            raise UserError(f"{where}.{key}: no such setting{nearest(key, hints)}")
    for field in dataclasses.fields(cls):
        required = field.default is field.default_factory is dataclasses.MISSING
        if required and field.name not in values:
            raise UserError(f"{where}.{field.name}: missing; it has no default")
    return cls(**{k: _value(hints[k], v, f"{where}.{k}") for k, v in values.items()})


def to_dict(value: Any) -> Any:
    """The inverse: nested dictionaries and lists of JSON values, every default written out."""
    if dataclasses.is_dataclass(value):
        return {f.name: to_dict(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {k: to_dict(v) for k, v in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_dict(v) for v in value]
    return value


def nearest(name: str, names: Any) -> str:
    """'; did you mean ...?' with the closest of `names`, else the list of all of them."""
    close = difflib.get_close_matches(str(name), [str(n) for n in names], n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(sorted(map(str, names)))}"


def closest(name: str, names: Any) -> str:
    """The one of `names` that is most like `name`."""
    return next(iter(difflib.get_close_matches(name, list(names), n=1, cutoff=0.0)), "none")


@functools.cache
def field_types(cls: type) -> dict[str, Any]:
    """Field name -> resolved type of a dataclass, in order of declaration."""
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls)}


def _value(hint: Any, value: Any, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin is typing.Literal:
        if value not in args:
            raise UserError(f"{where}: {value!r} is not one of {', '.join(map(repr, args))}")
        return value
    if origin in (typing.Union, types.UnionType):
        return _union(args, value, where)
    if origin is tuple:
        if not isinstance(value, (tuple, list)):
            raise UserError(f"{where}: expected a list, got {value!r}")
        if args[-1] is not Ellipsis and len(value) != len(args):
            raise UserError(f"{where}: expected {len(args)} values, got {value!r}")
        kinds = args if args[-1] is not Ellipsis else (args[0],) * len(value)
        pairs = zip(kinds, value, strict=True)
        return tuple(_value(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(pairs))
    if origin is dict:
        if not isinstance(value, dict):
            raise UserError(f"{where}: expected a table of named settings, got {value!r}")
        return {str(k): _value(args[1], v, f"{where}.{k}") for k, v in value.items()}
    if dataclasses.is_dataclass(hint):
        return from_dict(hint, value, where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise UserError(f"{where}: expected {hint.__name__}, got {value!r}")
    return value


def _union(options: tuple, value: Any, where: str) -> Any:
    if type(None) in options:
        if value is None:
            return None
        options = tuple(o for o in options if o is not type(None))
    if len(options) == 1:
        return _value(options[0], value, where)
    kinds = {o.kind: o for o in options if dataclasses.is_dataclass(o)}
    if not kinds:
        names = " or ".join(o.__name__ for o in options)
        for option in options:
            if isinstance(value, option) and not isinstance(value, bool):
                return value
        raise UserError(f"{where}: expected {names}, got {value!r}")
    if isinstance(value, tuple(kinds.values())):
        return value
    if not isinstance(value, dict) or "kind" not in value:
        raise UserError(f"{where}: needs a 'kind', one of {', '.join(sorted(kinds))}")
    kind = value["kind"]
    if kind not in kinds:
        raise UserError(f"{where}.kind: no kind {kind!r}{nearest(kind, kinds)}")
    return from_dict(kinds[kind], value, where)
