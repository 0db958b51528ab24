"""Which part of a batch a process feeds, and what it takes to join a job."""

from collections import namedtuple

import jax
import numpy as np
import pytest

from multimodal.errors import UserError
from multimodal.parallel import processes
from multimodal.parallel.mesh import AXES, make_mesh

Device = namedtuple("Device", "id process_index")
Sharding = namedtuple("Sharding", "devices_indices_map")
FakeMesh = namedtuple("FakeMesh", "shape")


@pytest.fixture
def part_of(monkeypatch):
    """(process of each device in mesh order, axes) -> the part of each process."""

    def find(owners, **axes):
        shape = {axis: axes.get(axis, 1) for axis in AXES}
        rows = np.repeat(range(shape["data"] * shape["fsdp"]), shape["tensor"] * shape["sequence"])
        held = {
            Device(i, owner): (slice(row, row + 1),)
            for i, (owner, row) in enumerate(zip(owners, rows.tolist(), strict=True))
        }
        monkeypatch.setattr(processes, "batch_sharding", lambda mesh: Sharding(lambda shape: held))
        parts = []
        for process in sorted(set(owners)):
            monkeypatch.setattr(jax, "process_index", lambda process=process: process)
            parts.append(processes.batch_part(FakeMesh(shape)))
        return parts

    return find


@pytest.mark.parametrize(
    "owners, axes, parts",
    [
        ("00001111", {"data": 8}, [(0, 2), (1, 2)]),
        ("00001111", {"data": 2, "fsdp": 4}, [(0, 2), (1, 2)]),
        ("00001111", {"data": 2, "tensor": 4}, [(0, 2), (1, 2)]),
        ("00112233", {"data": 2, "tensor": 4}, [(0, 2), (0, 2), (1, 2), (1, 2)]),
        ("00001111", {"tensor": 8}, [(0, 1), (0, 1)]),
        ("00001111", {"tensor": 4, "sequence": 2}, [(0, 1), (0, 1)]),
        ("11110000", {"data": 8}, [(1, 2), (0, 2)]),
        ("01010101", {"fsdp": 8}, [(0, 2), (1, 2)]),  # as wires may lie: each feeds its own rows
        ("0000", {"data": 4}, [(0, 1)]),
    ],
)
def test_the_part_that_a_process_feeds(part_of, owners, axes, parts):
    assert part_of(owners, **axes) == parts


@pytest.mark.parametrize(
    "owners, axes", [("001111", {"data": 3, "tensor": 2}), ("0001", {"data": 4})]
)
def test_uneven_parts_are_refused(part_of, owners, axes):
    with pytest.raises(UserError, match="unevenly to 2 processes"):
        part_of(owners, **axes)


def test_one_process_feeds_all():
    mesh = make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
    assert processes.batch_part(mesh) == (0, 1)


def test_a_batch_is_split_over_data_and_fsdp_in_order():
    mesh = make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
    x = np.arange(24).reshape(8, 3)
    placed = processes.to_global({"x": x}, mesh)["x"]
    assert placed.sharding.shard_shape(placed.shape) == (2, 3)
    np.testing.assert_array_equal(placed, x)


def test_without_an_address_there_is_no_job(monkeypatch):
    monkeypatch.delenv("JAX_COORDINATOR_ADDRESS", raising=False)
    processes.join()
    assert not jax.distributed.is_initialized()
    assert processes.is_main()


@pytest.mark.parametrize("missing", ["JAX_NUM_PROCESSES", "JAX_PROCESS_ID"])
@pytest.mark.parametrize("value", [None, "two"])
def test_a_job_half_described_is_refused(monkeypatch, missing, value):
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "localhost:1")
    monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
    monkeypatch.setenv("JAX_PROCESS_ID", "0")
    monkeypatch.setenv(missing, value) if value else monkeypatch.delenv(missing)
    with pytest.raises(UserError, match=missing):
        processes.join()


def test_a_job_is_joined_as_described(monkeypatch):
    told = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *args: told.append(args))
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "host:1234")
    monkeypatch.setenv("JAX_NUM_PROCESSES", "3")
    monkeypatch.setenv("JAX_PROCESS_ID", "2")
    processes.join()
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "auto")
    processes.join()
    assert told == [("host:1234", 3, 2), ()]
