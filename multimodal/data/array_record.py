"""ArrayRecord files of plain records, each packed with msgpack.

Msgpack is a public format of text, numbers, bytes, lists and dictionaries: reading it never runs
code, as unpickling would.
"""

import os
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgpack
from array_record.python.array_record_data_source import ArrayRecordDataSource
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from multimodal.data.paths import expand
from multimodal.data.record import BrokenRecord, Record, wanted
from multimodal.errors import UserError


def write(path: str, records: Iterable[Record]) -> int:
    """Writes `records` to one ArrayRecord file and returns their number.

    Values: str, bytes, bool, int, float, None, and lists and dictionaries of them. The file appears
    under its name only when it is whole. Raises UserError for another kind of value.
    """
    count, unfinished = 0, f"{path}.unfinished"
    # One record a chunk: each can be read alone.
    writer = ArrayRecordWriter(unfinished, "group_size:1")
    for record in records:
        try:
            writer.write(msgpack.packb(record))
        except (TypeError, ValueError, OverflowError) as error:
            writer.close()
            os.remove(unfinished)
            raise UserError(f"record {count} ({record.get('key')}): {error}") from None
        count += 1
    writer.close()
    os.replace(unfinished, path)
    return count


class ArrayRecordSource:
    """Records of ArrayRecord files that `write` made, in the order of their paths.

    Raises UserError for a file that is missing, cut off or holds other records.
    """

    def __init__(self, path: str | Sequence[str], fields: Iterable[str] | None = None):
        self.paths = expand(path, ".array_record")
        self._fields = None if fields is None else tuple(fields)
        self._counts = [_count(p) for p in self.paths]
        self._open()
        if len(self) and not isinstance(_unpack(self._source[0]), dict):
            raise UserError(
                f"data.source.path: the records of {self.paths[0]} are not msgpack dictionaries; "
                "a folder that TFDS prepared is read with kind='tfds'"
            )

    def _open(self) -> None:
        # Instructions, not paths: the reader takes some names for patterns or slices.
        whole = [
            _Whole(path, 0, count, count)
            for path, count in zip(self.paths, self._counts, strict=True)
        ]
        self._source = ArrayRecordDataSource(whole)

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("paths", "_fields", "_counts")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    @property
    def shards(self) -> int:
        return len(self.paths)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Record:
        if not 0 <= index < len(self):
            raise IndexError(index)
        try:
            record = _unpack(self._source[index])
        except Exception as error:
            raise BrokenRecord(str(index), f"cannot be read: {error}"[:200]) from None
        if not isinstance(record, dict):
            raise BrokenRecord(str(index), "is no msgpack dictionary")
        key = str(record.get("key", index))
        return {"key": key} | {
            n: v for n, v in record.items() if n != "key" and wanted(n, self._fields)
        }


class _Whole(NamedTuple):
    """A file read from its first record to its last, as the reader wants to be told."""

    filename: str
    skip: int
    take: int
    examples_in_shard: int


def _count(path: str) -> int:
    reader = ArrayRecordReader(path)
    if not reader.ok():
        raise UserError(f"data.source.path: {path} is no whole ArrayRecord file")
    count = reader.num_records()
    reader.close()
    return count


def _unpack(raw: bytes) -> Any:
    try:
        return msgpack.unpackb(raw)
    except Exception:  # msgpack raises ValueError, TypeError and classes of its own
        return None
