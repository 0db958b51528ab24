"""Tensors that lie in files: found by their names, and mapped into memory when they are wanted.

Nothing is read before that and nothing is kept, so that a checkpoint takes no more memory than the
part that is being looked at.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open

from multimodal.errors import UserError


@dataclass(frozen=True)
class Stored:
    """A tensor of a file, `offset` bytes from its beginning; numpy reads it as an array.

    `strides`, in entries, are those of rows one after the other unless given.
    """

    path: Path
    offset: int
    dtype: np.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None = None

    @property
    def span(self) -> int:
        """Entries from the first to the last."""
        if 0 in self.shape:
            return 0
        if self.strides is None:
            return int(np.prod(self.shape, dtype=np.int64))
        return 1 + sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if not self.span:
            return np.zeros(self.shape, dtype or self.dtype)
        flat = np.memmap(self.path, self.dtype, "r", self.offset, (self.span,))
        if self.strides is None:
            array = flat.reshape(self.shape)
        else:
            strides = [step * self.dtype.itemsize for step in self.strides]
            array = np.lib.stride_tricks.as_strided(flat, self.shape, strides, writeable=False)
        return array if dtype in (None, self.dtype) else array.astype(dtype)


Tensors = dict[str, Stored]

# The names of types in the header of a safetensors file.
_TYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(jnp.bfloat16),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}


def in_safetensors(path: Path) -> Tensors:
    """The tensors of a safetensors file by name. Raises UserError where it is none, or torn."""
    try:
        with safe_open(path, "numpy"):  # checks the header against the size of the file
            pass
    except SafetensorError as error:
        raise UserError(f"{path} is not a whole safetensors file: {error}") from None
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
    found = {}
    for name, told in header.items():
        if name == "__metadata__":
            continue
        if told["dtype"] not in _TYPES:
            raise UserError(f"{path}: {name} is of type {told['dtype']}, which is not read")
        offset = 8 + size + told["data_offsets"][0]
        found[name] = Stored(path, offset, _TYPES[told["dtype"]], tuple(told["shape"]))
    return found


def shards_of(index: Path) -> list[Path]:
    """The files that an index such as `model.safetensors.index.json` names.

    Raises UserError where it is no index, or a file is not there.
    """
    try:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{index} is not an index of tensors: {error!r}") from None
    for name in names:
        if Path(name).name != name or not (index.parent / name).is_file():
            raise UserError(f"{index} names the file {name}, which is not beside it")
    return [index.parent / name for name in names]


def joined(parts: Iterable[Tensors]) -> Tensors:
    """The tensors of several files. Raises UserError for a name that two of them have."""
    found: Tensors = {}
    for part in parts:
        for name, tensor in part.items():
            if name in found:
                raise UserError(f"{name} is in {found[name].path.name} and in {tensor.path.name}")
            found[name] = tensor
    return found
