"""PyTorch's zip files, read without PyTorch and without running what is pickled in them.

A pickle is a program. This reader knows the few functions that a state dict or a TorchScript
archive is made of, and has stand-ins for them that only note where a tensor lies; a file that
calls for anything else is refused with the name of it. A pickle may also change whatever it is
handed: that is immutable, or made for it alone.
"""

import collections
import io
import operator
import pickle
import re
import struct
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from multimodal.errors import UserError
from multimodal.interop.tensors import Stored, Tensors

_TYPES = {
    "DoubleStorage": np.dtype(np.float64),
    "FloatStorage": np.dtype(np.float32),
    "HalfStorage": np.dtype(np.float16),
    "BFloat16Storage": np.dtype(jnp.bfloat16),
    "LongStorage": np.dtype(np.int64),
    "IntStorage": np.dtype(np.int32),
    "ShortStorage": np.dtype(np.int16),
    "CharStorage": np.dtype(np.int8),
    "ByteStorage": np.dtype(np.uint8),
    "BoolStorage": np.dtype(np.bool_),
}
_LISTS = {f"build_{kind}list" for kind in ("int", "double", "bool", "tensor")}  # TorchScript's


class _Storage(NamedTuple):
    kind: str  # of `_TYPES`
    key: str
    count: int


class _Tensor(NamedTuple):
    storage: _Storage
    start: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Module:
    """What a TorchScript archive has in the place of a module: its attributes, nothing else."""


def in_pytorch(path: Path) -> Tensors:
    """The tensors of a state dict or of a TorchScript archive, by name.

    Raises UserError for other files, for a pickle that wants more than tensors, naming what it
    wants, and for a tensor that does not lie in its file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            pickles = [n for n in archive.namelist() if re.fullmatch(r"[^/]+/data\.pkl", n)]
            if len(pickles) != 1:
                raise UserError(f"{path} is a zip file, but not one of PyTorch's: no data.pkl")
            root = pickles[0].removesuffix("data.pkl")
            order = f"{root}byteorder"
            if order in archive.namelist() and archive.read(order) != b"little":
                raise UserError(f"{path} was written on a big-endian machine; write it anew")
            content = archive.read(pickles[0])
            data = {n.removeprefix(f"{root}data/"): n for n in archive.namelist()}
            places = _Places(path, {key: archive.getinfo(name) for key, name in data.items()})
    except zipfile.BadZipFile:
        raise UserError(
            f"{path} is not PyTorch's zip format; a pickle as such is not read: write it anew with "
            "torch.save, or as safetensors"
        ) from None
    try:
        return _named(_Reader(content, path).load(), places)
    except UserError:
        raise
    except Exception as error:  # a pickle can go wrong in any way
        raise UserError(f"{path} holds a pickle that cannot be read: {error!r}") from None


class _Places:
    """Where the storages of an archive lie in the file."""

    def __init__(self, path: Path, members: dict[str, zipfile.ZipInfo]):
        self.path, self._members = path, members

    def find(self, tensor: _Tensor) -> Stored:
        (kind, key, count), start, shape, strides = tensor
        dtype, member = _TYPES[kind], self._members.get(key)
        if member is None or member.file_size != count * dtype.itemsize:
            raise UserError(f"{self.path}: the storage {key} is not there with {count} entries")
        if len(shape) != len(strides) or min((0, start, *shape, *strides)) < 0:
            raise UserError(f"{self.path}: a tensor has shape {shape} and strides {strides}")
        offset = offset_in_zip(self.path, member) + start * dtype.itemsize
        found = Stored(self.path, offset, dtype, shape, strides)
        if start + found.span > count:
            raise UserError(f"{self.path}: a tensor of shape {shape} reaches beyond its storage")
        return found


def offset_in_zip(path: Path, member: zipfile.ZipInfo) -> int:
    """Where the bytes of a member begin. Raises UserError where they are compressed or not there:
    such bytes cannot be mapped into memory."""
    if member.compress_type != zipfile.ZIP_STORED:
        raise UserError(f"{path}: {member.filename} is compressed; write the file uncompressed")
    with path.open("rb") as file:
        file.seek(member.header_offset)
        header = file.read(30)
    if len(header) < 30 or header[:4] != b"PK\x03\x04":
        raise UserError(f"{path} is torn: {member.filename} is not where it is said to be")
    name, extra = struct.unpack("<HH", header[26:30])
    offset = member.header_offset + 30 + name + extra
    if offset + member.file_size > path.stat().st_size:
        raise UserError(f"{path} is torn: {member.filename} reaches beyond its end")
    return offset


class _Reader(pickle.Unpickler):
    def __init__(self, content: bytes, path: Path):
        super().__init__(io.BytesIO(content))
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        # Functions and classes are new ones each time: a pickle may set their attributes. Types are
        # their names: a numpy type could be changed for the whole process.
        match module, name:
            case "collections", "OrderedDict":
                return collections.OrderedDict
            case "torch._utils", "_rebuild_tensor_v2":
                return lambda storage, start, shape, strides, *_: _Tensor(
                    _of(_Storage, storage), operator.index(start), _sizes(shape), _sizes(strides)
                )
            case "torch._utils", "_rebuild_parameter":
                return lambda tensor, *_: _of(_Tensor, tensor)
            case (("torch" | "torch.storage"), _) if name in _TYPES:
                return name
            case "torch.jit._pickle", _ if name in _LISTS:
                return lambda items: list(items)
            case "torch.jit._pickle", "restore_type_tag":
                return lambda value, *_: value
        if module.split(".")[0] == "__torch__":
            return type("Module", (_Module,), {})
        raise UserError(
            f"{self._path} wants to run {module}.{name} to be read, which is not among what "
            "tensors need; nothing of it was run"
        )

    def persistent_load(self, pid: Any) -> _Storage:
        what, kind, key, _, count = pid
        if what != "storage" or kind not in _TYPES:
            raise UserError(f"{self._path}: {what!r} of {kind!r} in the place of a storage")
        return _Storage(kind, str(key), int(count))


def _sizes(value: Any) -> tuple[int, ...]:
    return tuple(map(operator.index, value))


def _of(kind: type, value: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{type(value).__name__} in the place of a {kind.__name__}")
    return value


def _named(tree: Any, places: _Places) -> Tensors:
    """The tensors of a module's attributes, or of a dictionary, of which `state_dict` may be one
    entry among others."""
    if isinstance(tree, dict) and isinstance(tree.get("state_dict"), dict):
        tree = tree["state_dict"]
    found: Tensors = {}

    def walk(value: Any, name: str) -> None:
        if isinstance(value, _Tensor):
            found[name] = places.find(value)
        elif isinstance(value, _Module | dict):
            parts = value if isinstance(value, dict) else vars(value)
            for key, part in parts.items():
                walk(part, f"{name}.{key}" if name else str(key))

    walk(tree, "")
    if not found:
        raise UserError(f"{places.path} holds no tensors by name")
    if all(name.startswith("module.") for name in found):  # of DistributedDataParallel
        found = {name.removeprefix("module."): tensor for name, tensor in found.items()}
    return found
