"""Data sets of the `datasets` library: those that it saved, read as the Arrow files that they are,
memory-mapped; and those of the hub, which it fetches first.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from multimodal.data.parquet import first_line, record_of
from multimodal.data.record import Record, locate, wanted
from multimodal.errors import UserError

_END = b"\xff\xff\xff\xff\x00\x00\x00\x00"  # of an Arrow stream


class ArrowSource:
    """Rows of Arrow stream files in the order of their paths; records as `ParquetSource` makes.

    Raises UserError for a file that is missing or cut short.
    """

    def __init__(self, paths: list[str], fields: Iterable[str] | None = None):
        self.paths = paths
        self._fields = None if fields is None else tuple(fields)
        self._tables = [self._open(path) for path in paths]
        self._starts = np.cumsum([0] + [table.num_rows for table in self._tables])

    def _open(self, path: str) -> pa.Table:
        try:
            with open(path, "rb") as file:
                file.seek(-min(len(_END), os.stat(path).st_size), os.SEEK_END)
                if file.read() != _END:
                    raise OSError("its end is missing")
            table = pa.ipc.open_stream(pa.memory_map(path)).read_all()
        except (OSError, pa.ArrowException) as error:
            raise UserError(
                f"data.source: {path} is no whole Arrow file: {first_line(error)}"
            ) from None
        return table.select(
            [n for n in table.column_names if n == "key" or wanted(n, self._fields)]
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return ArrowSource, (self.paths, self._fields)

    @property
    def shards(self) -> int:
        return len(self.paths)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> Record:
        file, row = locate(index, self._starts)
        key = f"{Path(self.paths[file]).stem}/{row}"
        return record_of(self._tables[file], row, key, os.path.dirname(self.paths[file]))


def open_huggingface(
    name: str, data_dir: str, split: str, subset: str = "", fields: Iterable[str] | None = None
) -> ArrowSource:
    """A folder that `save_to_disk` wrote (a path, or a name below `data_dir`), else a name of the
    hub, whose `subset` is its configuration.

    Raises UserError where neither is found, for an unknown split and an unfinished folder.
    """
    for folder in (Path(name).expanduser(), Path(data_dir) / name):
        if folder.is_dir():
            return ArrowSource(_saved(folder, split), fields)
    if name.startswith(("/", "~", ".")):
        raise UserError(f"data.source.name: no such folder: {name}")
    return ArrowSource(_fetched(name, split, subset), fields)


def _saved(folder: Path, split: str) -> list[str]:
    splits = folder / "dataset_dict.json"
    if splits.is_file():
        known = _json(splits).get("splits", [])
        if split not in known:
            raise UserError(f"data.source.split={split!r}: {folder} has {', '.join(known)}")
        folder = folder / split
    state = folder / "state.json"
    if not state.is_file():
        raise UserError(
            f"data.source.name: {folder} is no whole folder of save_to_disk: no state.json in it"
        )
    names = [str(entry.get("filename")) for entry in _json(state).get("_data_files", [])]
    if not names:
        raise UserError(f"data.source.name: {state} names no data files")
    return [str(folder / name) for name in names]


def _fetched(name: str, split: str, subset: str) -> list[str]:
    """Arrow files that the library prepared in its cache."""
    try:
        import datasets
    except ImportError:
        raise UserError(
            f"data.source.name: no folder {name!r}; to fetch it from the hub, install the extra "
            "'hf' (pip install multimodal[hf])"
        ) from None
    if "[" in split:
        raise UserError(f"data.source.split={split!r}: whole splits only; see where and holdout")
    try:
        found = datasets.load_dataset(name, subset or None, split=split)
    except Exception as error:  # every builder has its own
        raise UserError(
            f"data.source.name: datasets cannot load {name!r}, split {split!r}: {first_line(error)}"
        ) from None
    return [entry["filename"] for entry in found.cache_files]


def _json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"data.source.name: cannot read {path}: {error}") from None
    return values if isinstance(values, dict) else {}
