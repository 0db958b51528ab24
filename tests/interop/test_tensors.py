"""Tensors of safetensors files, whole and in shards, and files that are not what they should be."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from multimodal.errors import UserError
from multimodal.interop.tensors import Stored, in_safetensors, joined, shards_of

RNG = np.random.default_rng(0)
ARRAYS = {
    "b": RNG.normal(size=(3, 5)).astype(np.float32),
    "a": RNG.normal(size=7).astype(np.float16),
    "scalar": np.array(1.25, np.float32),
    "brain": RNG.normal(size=(2, 2)).astype(jnp.bfloat16),
    "ids": np.arange(4),
    "empty": np.zeros((0, 2), np.float32),
}


def test_every_type_to_the_bit(tmp_path):
    save_file(ARRAYS, tmp_path / "model.safetensors", metadata={"format": "pt"})
    found = in_safetensors(tmp_path / "model.safetensors")
    assert found.keys() == ARRAYS.keys()
    for name, value in ARRAYS.items():
        array = np.asarray(found[name])
        assert (array.dtype, array.shape) == (value.dtype, value.shape), name
        assert array.tobytes() == value.tobytes(), name


def test_nothing_is_kept_and_nothing_can_be_written(tmp_path):
    save_file(ARRAYS, tmp_path / "model.safetensors")
    stored = in_safetensors(tmp_path / "model.safetensors")["b"]
    first, second = np.asarray(stored), np.asarray(stored)
    assert not np.shares_memory(first, second) and isinstance(first.base, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        first[0, 0] = 1


def test_a_part_between_strides(tmp_path):
    path = tmp_path / "raw"
    path.write_bytes(np.arange(24, dtype=np.float32).tobytes())
    part = Stored(path, 24, np.dtype(np.float32), (3, 2), (1, 6))
    whole = np.arange(24, dtype=np.float32).reshape(4, 6)
    np.testing.assert_array_equal(part, whole[1:3, :3].T)
    assert part.span == 9


def test_torn_files_are_told(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(ARRAYS, path)
    whole = path.read_bytes()
    for torn in (whole[:-3], whole[:5], b"", b"\xff" * 100):
        path.write_bytes(torn)
        with pytest.raises(UserError, match="not a whole safetensors file"):
            in_safetensors(path)


def index(folder, names):
    (folder / "i.json").write_text(json.dumps({"weight_map": names}))
    return folder / "i.json"


def test_shards_are_joined(tmp_path):
    for i, name in enumerate(("a", "b")):
        save_file({name: ARRAYS[name]}, tmp_path / f"{i}.safetensors")
    files = shards_of(index(tmp_path, {"a": "0.safetensors", "b": "1.safetensors"}))
    found = joined(map(in_safetensors, files))
    np.testing.assert_array_equal(found["b"], ARRAYS["b"])
    with pytest.raises(UserError, match="a is in 0.safetensors and in 0.safetensors"):
        joined([in_safetensors(files[0])] * 2)


@pytest.mark.parametrize("name", ["2.safetensors", "../0.safetensors"])
def test_an_index_names_files_beside_it(tmp_path, name):
    (tmp_path / "inner").mkdir()
    save_file({"a": ARRAYS["a"]}, tmp_path / "0.safetensors")
    with pytest.raises(UserError, match="which is not beside it"):
        shards_of(index(tmp_path / "inner", {"a": name}))


def test_an_index_that_is_none(tmp_path):
    (tmp_path / "i.json").write_text("[]")
    with pytest.raises(UserError, match="is not an index of tensors"):
        shards_of(tmp_path / "i.json")
