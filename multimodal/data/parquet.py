"""Parquet files at random: whole row groups of the columns asked for, the last few kept in memory.

Parquet has no single rows: reading one unpacks its row group. Where more of them are in use than
are kept, every record costs a row group; `Data.group` and `Data.window` shuffle within a few.
"""

import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from multimodal.data.paths import expand
from multimodal.data.record import BrokenRecord, Record, locate, wanted
from multimodal.errors import UserError

_KEPT = 1 << 28  # bytes of unpacked row groups kept a source
_TELL_AFTER = 64  # row groups unpacked
_OF_THIS_PROCESS = ("_tables", "_lock", "_asked", "_unpacked")
log = logging.getLogger(__name__)


class ParquetSource:
    """Rows of Parquet files, in the order of their paths; only columns that `fields` ask for.

    A record's `key` is the column of that name, else FILE/ROW. Pictures are columns of bytes, or
    structs `{bytes, path}` as Hugging Face writes them.
    Raises UserError for a file that is missing, cut short or no Parquet.
    """

    def __init__(self, path: str | Sequence[str], fields: Iterable[str] | None = None):
        self.paths = expand(path, ".parquet")
        self._fields = None if fields is None else tuple(fields)
        groups: list[tuple[int, int, int]] = []  # file, row group, rows
        self._columns: list[list[str]] = []
        for number, name in enumerate(self.paths):
            metadata = _metadata(name)
            columns = metadata.schema.to_arrow_schema().names
            self._columns.append([c for c in columns if c == "key" or wanted(c, self._fields)])
            for group in range(metadata.num_row_groups):
                groups.append((number, group, metadata.row_group(group).num_rows))
        self._groups = np.array(groups, np.int64).reshape(-1, 3)
        self._starts = np.cumsum([0, *self._groups[:, 2]])
        self._first = np.searchsorted(self._groups[:, 0], np.arange(len(self.paths)))
        self._open()

    def _open(self) -> None:
        self._tables: OrderedDict[int, pa.Table | str] = OrderedDict()
        self._lock = threading.Lock()
        self._asked = self._unpacked = 0

    def __getstate__(self) -> dict[str, Any]:
        return {n: v for n, v in self.__dict__.items() if n not in _OF_THIS_PROCESS}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    @property
    def shards(self) -> int:
        return len(self.paths)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> Record:
        number, row = locate(index, self._starts)
        file = int(self._groups[number, 0])
        key = f"{Path(self.paths[file]).stem}/{index - self._starts[self._first[file]]}"
        table = self._table(number)
        if isinstance(table, str):
            raise BrokenRecord(key, table)
        return record_of(table, row, key, os.path.dirname(self.paths[file]))

    def _table(self, number: int) -> pa.Table | str:
        """Row group `number`, or why it cannot be read."""
        with self._lock:
            self._asked += 1
            if number in self._tables:
                self._tables.move_to_end(number)
                return self._tables[number]
            file, group, rows = self._groups[number].tolist()
            self._unpacked += 1
            if self._unpacked == _TELL_AFTER and self._asked < _TELL_AFTER * min(4, rows):
                log.warning(
                    "%s: a row group of %d rows is unpacked for %.1f records at a time; "
                    "data.group=%d with data.window=2 or more shuffles within a few of them",
                    *(self.paths[file], rows, self._asked / self._unpacked, rows),
                )
            try:
                reader = pq.ParquetFile(self.paths[file])
                table = reader.read_row_group(group, columns=self._columns[file])
                if table.num_rows != rows:
                    table = f"row group {group} has {table.num_rows} rows, not {rows}"
            except (OSError, pa.ArrowException) as error:
                table = f"row group {group} cannot be read: {first_line(error)}"
            self._tables[number] = table
            sizes = [t.nbytes for t in self._tables.values() if isinstance(t, pa.Table)]
            while sum(sizes) > _KEPT and len(self._tables) > 1:
                dropped = self._tables.popitem(last=False)[1]
                if isinstance(dropped, pa.Table):
                    sizes.pop(0)
            return table


def record_of(table: pa.Table, row: int, key: str, folder: str) -> Record:
    """One row of a table as a record; `key` where there is no such column. Pictures that Hugging
    Face left outside are looked for below `folder`. Raises BrokenRecord."""
    try:
        values = {name: table.column(name)[row].as_py() for name in table.column_names}
    except (ValueError, pa.ArrowException) as error:  # text that is not UTF-8, say
        raise BrokenRecord(key, f"cannot be read: {first_line(error)}") from None
    key = str(values.pop("key", None) or key)
    record: Record = {"key": key}
    for name, value in values.items():
        if isinstance(value, dict) and value.keys() == {"bytes", "path"}:
            value = _encoded(value, key, name, folder)
        if value is not None:
            record[name] = value
    return record


def _encoded(value: dict[str, Any], key: str, name: str, folder: str) -> bytes | None:
    if value["bytes"] is not None or value["path"] is None:
        return value["bytes"]
    path = os.path.join(folder, value["path"])
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise BrokenRecord(key, f"{name}: cannot read {path}: {error.strerror}") from None


def _metadata(path: str) -> pq.FileMetaData:
    try:
        return pq.read_metadata(path)
    except (OSError, pa.ArrowException) as error:
        raise UserError(
            f"data.source.path: {path} is no whole Parquet file: {first_line(error)}"
        ) from None


def first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else repr(error)
