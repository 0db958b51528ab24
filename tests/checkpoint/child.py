"""Runs in a process of its own: `python -m tests.checkpoint.child WHAT FOLDER [ARGUMENTS]`."""

import resource
import sys
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from multimodal import config
from multimodal.checkpoint.bundle import Checkpoints
from multimodal.errors import UserError
from multimodal.parallel.mesh import make_mesh
from tests.checkpoint.states import META, bits, make_state, target_of

SETTINGS = config.Checkpoints(every=1, keep=2)
WIDTH = 512


def train(folder: Path) -> None:
    """Resumes, then saves step after step until it is killed; says which ones are on disk."""
    mesh = make_mesh({"data": 1, "fsdp": -1})
    checkpoints = Checkpoints(folder, SETTINGS)
    first = checkpoints.latest() or 0
    print("from", first, flush=True)
    for step in range(first + 1, 1000):
        checkpoints.save(step, make_state(mesh, seed=step, width=WIDTH), META)
        if step % 2:  # others are waited for by the next save
            checkpoints.wait()
            print("saved", step, flush=True)


def full(folder: Path) -> None:
    """Saves step 1, then step 2 with no room for it, then step 3 with room again."""
    mesh = make_mesh({"data": 1, "fsdp": -1})
    checkpoints = Checkpoints(folder, SETTINGS)
    checkpoints.save(1, make_state(mesh, seed=1, width=WIDTH), META)
    checkpoints.wait()
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, unlimited[1]))
    try:
        checkpoints.save(2, make_state(mesh, seed=2, width=WIDTH), META)
        checkpoints.wait()
    except UserError as error:
        print("refused", error, flush=True)
    resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    print("steps", *checkpoints.steps(), flush=True)
    checkpoints.save(3, make_state(mesh, seed=3, width=WIDTH), META)
    print("steps", *checkpoints.steps(), flush=True)
    checkpoints.close()


def several(folder: Path, port: str, index: str) -> None:
    """One of two processes with four devices each: save, damage, agree, restore."""
    jax.distributed.initialize(f"localhost:{port}", num_processes=2, process_id=int(index))
    mesh = make_mesh({"data": 1, "fsdp": -1})
    checkpoints = Checkpoints(folder, SETTINGS)
    for step in (1, 2, 3):
        checkpoints.save(step, make_state(mesh, seed=step, width=WIDTH), META)
    assert checkpoints.steps() == [2, 3]
    multihost_utils.sync_global_devices("saved")
    if index == "1":  # the first process is the one that has to find it
        next((folder / "00000003/state/ocdbt.process_1/d").iterdir()).unlink()
    multihost_utils.sync_global_devices("damaged")
    assert checkpoints.latest() == 2
    for shape in ({"data": 1, "fsdp": 8}, {"data": 2, "tensor": 4}):
        other = make_mesh(shape)
        wanted = make_state(mesh, seed=2, width=WIDTH)
        restored = checkpoints.restore(2, target_of(wanted, other))
        assert bits(local(restored)) == bits(local(make_state(other, seed=2, width=WIDTH)))
    assert checkpoints.meta(2) == META
    assert bits(local(checkpoints.restore_params(2))) is not None
    checkpoints.close()
    print("agreed", flush=True)


def local(tree) -> list:
    """The parts on this process's devices."""
    return jax.tree.map(lambda x: [np.asarray(s.data) for s in x.addressable_shards], tree)


if __name__ == "__main__":
    what, where, *rest = sys.argv[1:]
    {"train": train, "full": full, "several": several}[what](Path(where), *rest)
