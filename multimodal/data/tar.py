"""WebDataset tars at random: an index of their headers, kept beside them, and positioned reads.

A record is the members that share a path up to the first dot of the file name (`a/0001.jpg`,
`a/0001.txt`); what follows that dot names the field. Nothing is ever extracted, so a member's name
is only a key. The index is built once by reading headers; it is rebuilt when the tar changes.
"""

import json
import logging
import os
import tarfile
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from multimodal.data.cache import cached
from multimodal.data.paths import expand
from multimodal.data.record import BrokenRecord, Record, locate, wanted
from multimodal.errors import UserError

log = logging.getLogger(__name__)

_OPEN_FILES = 256  # shards kept open a process; further ones are opened for each read


class Index(NamedTuple):
    """Where the parts of each record lie; record i owns parts `bounds[i]` to `bounds[i + 1]`."""

    keys: list[str]
    extensions: list[str]
    bounds: np.ndarray  # [records + 1]
    extension: np.ndarray  # [parts], into `extensions`
    offset: np.ndarray  # [parts], bytes
    size: np.ndarray  # [parts], bytes


class TarSource:
    """Records of tar shards in the order of their paths; only parts that `fields` ask for are read.

    Values by extension: `txt` text, `json` parsed, `cls` integer, anything else bytes.
    Raises UserError for a missing, empty, compressed or foreign file.
    """

    def __init__(self, path: str | Sequence[str], fields: Iterable[str] | None = None):
        self.paths = expand(path, ".tar")
        self._fields = None if fields is None else tuple(fields)
        self._indexes = [load_index(p) for p in self.paths]
        self._starts = np.cumsum([0] + [len(i.keys) for i in self._indexes])
        self._open()

    def _open(self) -> None:
        self._files: dict[int, int] = {}
        self._lock = threading.Lock()
        self._wanted = [[wanted(e, self._fields) for e in i.extensions] for i in self._indexes]

    def __getstate__(self) -> dict[str, Any]:
        keep = ("paths", "_fields", "_indexes", "_starts")
        return {name: getattr(self, name) for name in keep}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        for file in getattr(self, "_files", {}).values():
            close(file)

    @property
    def shards(self) -> int:
        return len(self.paths)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> Record:
        shard, local = locate(index, self._starts)
        parts = self._indexes[shard]
        key = parts.keys[local]
        record: Record = {"key": key}
        for part in range(parts.bounds[local], parts.bounds[local + 1]):
            name = parts.extensions[parts.extension[part]]
            if not self._wanted[shard][parts.extension[part]]:
                continue
            offset, size = int(parts.offset[part]), int(parts.size[part])
            try:
                raw = self._read(shard, offset, size)
            except OSError as error:
                raise BrokenRecord(key, f"{name} cannot be read: {error}") from None
            if len(raw) < size:
                shard_name = Path(self.paths[shard]).name
                raise BrokenRecord(key, f"{name} is cut off: {shard_name} ends early")
            record[name] = _decode(key, name, raw)
        return record

    def key(self, index: int) -> str:
        """That of a record, without reading it."""
        shard, local = locate(index, self._starts)
        return self._indexes[shard].keys[local]

    def _read(self, shard: int, offset: int, size: int) -> bytes:
        file = self._files.get(shard)
        if file is not None:
            return os.pread(file, size, offset)
        file = os.open(self.paths[shard], os.O_RDONLY | os.O_CLOEXEC)
        with self._lock:
            keep = len(self._files) < _OPEN_FILES and shard not in self._files
            if keep:
                self._files[shard] = file
        try:
            return os.pread(file, size, offset)
        finally:
            if not keep:
                os.close(file)


def _decode(key: str, name: str, raw: bytes) -> Any:
    try:
        match name.rpartition(".")[2]:
            case "txt":
                return raw.decode().strip()
            case "cls":
                return int(raw)
            case "json":
                return json.loads(raw)
    except ValueError as error:
        raise BrokenRecord(key, f"{name} cannot be read: {error}") from None
    return raw


def load_index(path: str) -> Index:
    """The index of one tar, from its cache where the tar has not changed since."""
    arrays = cached(path, "index", lambda path: _packed(build_index(path)))
    names = [_unpack(arrays["keys"]), _unpack(arrays["extensions"])]
    return Index(*names, *(arrays[name] for name in Index._fields[2:]))


def build_index(path: str) -> Index:
    """Reads the headers of one tar. A last member that is cut off is listed with its full size."""
    parts: dict[str, dict[str, tuple[int, int]]] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in _members(tar, path):
                folder, _, name = member.name.rpartition("/")
                stem, _, extension = name.partition(".")
                if member.isfile() and stem and extension:
                    key = f"{folder}/{stem}" if folder else stem
                    place = (member.offset_data, member.size)
                    parts.setdefault(key, {})[extension.lower()] = place
    except tarfile.TarError as error:
        why = "compressed; unpack it first" if _is_compressed(path) else str(error)
        raise UserError(f"data.source.path: {path} is not a readable tar: {why}") from None
    extensions = sorted({e for record in parts.values() for e in record})
    ids = {extension: i for i, extension in enumerate(extensions)}
    flat = [(ids[e], *place) for record in parts.values() for e, place in record.items()]
    table = np.array(flat, np.int64).reshape(-1, 3)
    bounds = np.cumsum([0] + [len(record) for record in parts.values()])
    return Index(list(parts), extensions, bounds, table[:, 0], table[:, 1], table[:, 2])


def _members(tar: tarfile.TarFile, path: str) -> Iterable[tarfile.TarInfo]:
    try:
        while (member := tar.next()) is not None:
            yield member
            tar.members = []  # tarfile keeps every member for good otherwise
    except tarfile.ReadError as error:
        log.warning("%s is cut short (%s); the records before the cut are used", path, error)


def _is_compressed(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(6).startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"))


def _packed(index: Index) -> dict[str, np.ndarray]:
    names = {"keys": _pack(index.keys), "extensions": _pack(index.extensions)}
    return index._asdict() | names


def _pack(names: list[str]) -> np.ndarray:
    return np.frombuffer("\0".join(names).encode("utf-8", "surrogateescape"), np.uint8)


def _unpack(packed: np.ndarray) -> list[str]:
    text = packed.tobytes().decode("utf-8", "surrogateescape")
    return text.split("\0") if text else []
