"""A record: a dictionary of plain values with its own `key`, whatever source it came from."""

from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np

Record = dict[str, Any]


class BrokenRecord(Exception):
    """One unreadable record: it becomes a masked slot, counted and reported; the run goes on."""

    def __init__(self, key: str, reason: str):
        super().__init__(key, reason)
        self.key, self.reason = key, reason

    def __str__(self) -> str:
        return f"{self.key}: {self.reason}"


class Source(Protocol):
    """Random access to records. Safe to share between threads and to pickle to other processes.

    `source[i]` raises BrokenRecord for a record that cannot be read. `shards`: in how many parts it
    can be read at once (files, or records where each is a file).
    """

    @property
    def shards(self) -> int: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Record: ...


def locate(index: int, starts: np.ndarray) -> tuple[int, int]:
    """The part that holds record `index`, and its place there; part i begins at `starts[i]`, and
    the last entry is the end. Raises IndexError, which also ends an iteration over the source."""
    if not 0 <= index < starts[-1]:
        raise IndexError(index)
    part = int(np.searchsorted(starts, index, side="right")) - 1
    return part, index - int(starts[part])


_MISSING = object()


def look_up(record: Record, path: str) -> Any:
    """The value at `path`: a name, a dotted way into nested dictionaries, or several with `|`.

    Of `"jpg|png"` the first that the record has is taken. Raises KeyError naming what it does have.
    """
    for name in path.split("|"):
        value = _walk(record, name)
        if value is not _MISSING:
            return value
    raise KeyError(f"no field {path!r} among {', '.join(sorted(map(str, record)))}")


def _walk(values: Any, path: str) -> Any:
    if not isinstance(values, dict):
        return _MISSING
    if path in values:
        return values[path]
    head, _, rest = path.partition(".")
    return _walk(values.get(head), rest) if rest else _MISSING


def wanted(name: str, paths: Iterable[str] | None) -> bool:
    """Is the top-level field `name` on the way of one of `paths`? None asks for every field."""
    if paths is None:
        return True
    names = [alternative for path in paths for alternative in path.split("|")]
    return any(n == name or n.startswith(name + ".") for n in names)
