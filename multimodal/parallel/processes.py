"""Several processes as one job: start-up, and arrays that span them."""

import math
import os

import jax
import numpy as np
from jax.sharding import Mesh

from multimodal.errors import UserError
from multimodal.parallel.rules import BATCH, batch_sharding


def join() -> None:
    """Joins the job that the environment describes, if it describes one.

    JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID name it; on SLURM, GKE and TPU
    slices jax finds its peers by itself once JAX_COORDINATOR_ADDRESS=auto is set.
    """
    address = os.environ.get("JAX_COORDINATOR_ADDRESS")
    if not address or jax.distributed.is_initialized():
        return
    if address == "auto":
        del os.environ["JAX_COORDINATOR_ADDRESS"]
        jax.distributed.initialize()
        return
    jax.distributed.initialize(address, _number("JAX_NUM_PROCESSES"), _number("JAX_PROCESS_ID"))


def batch_part(mesh: Mesh) -> tuple[int, int]:
    """(index, count): which of how many equal parts of every batch this process is to feed.

    Processes whose devices hold the same examples, as under tensor parallelism, feed the same part.
    Raises UserError when the mesh deals examples out unevenly.
    """
    size = math.prod(mesh.shape[axis] for axis in BATCH)
    held: dict[int, set[int]] = {}
    for device, index in batch_sharding(mesh).devices_indices_map((size,)).items():
        held.setdefault(device.process_index, set()).add(index[0].indices(size)[0])
    parts = sorted({tuple(sorted(rows)) for rows in held.values()})
    if len({len(part) for part in parts}) > 1 or sum(map(len, parts)) != size:
        raise UserError(
            f"mesh {dict(mesh.shape)} deals the batch unevenly to {len(held)} processes; give data "
            "and fsdp sizes that the devices of one process divide or are divided by"
        )
    return parts.index(tuple(sorted(held[jax.process_index()]))), len(parts)


def to_global(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """This process's part of a batch (see `batch_part`) as arrays over the whole mesh."""
    sharding = batch_sharding(mesh)

    def place(x: np.ndarray) -> jax.Array:
        return jax.make_array_from_process_local_data(sharding, x)

    return jax.tree.map(place, batch)


def is_main() -> bool:
    """Is this the process that writes what is written once?"""
    return jax.process_index() == 0


def _number(name: str) -> int:
    value = os.environ.get(name, "")
    if not value.isdigit():
        raise UserError(f"JAX_COORDINATOR_ADDRESS is set, but {name}={value!r} is not a number")
    return int(value)
