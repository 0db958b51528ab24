"""Several processes as one job: start-up, and arrays that span them."""

import os
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from multimodal.parallel.rules import batch_sharding


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
    jax.distributed.initialize(
        address, int(os.environ["JAX_NUM_PROCESSES"]), int(os.environ["JAX_PROCESS_ID"])
    )


def to_global(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """This process's examples as its part of arrays over the whole mesh, split along the batch."""
    sharding = batch_sharding(mesh)

    def place(x: np.ndarray) -> jax.Array:
        return jax.make_array_from_process_local_data(sharding, x)

    return jax.tree.map(place, batch)


def is_main() -> bool:
    """Is this the process that writes what is written once?"""
    return jax.process_index() == 0


def to_host(tree: Any) -> Any:
    """Replicated device values as NumPy arrays."""
    return jax.tree.map(np.asarray, tree)
