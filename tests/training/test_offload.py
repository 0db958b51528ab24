"""Moments in the hosts' memory: the same training, elsewhere between the steps."""

import jax
import numpy as np
import pytest

from multimodal import config
from multimodal.checkpoint.bundle import Checkpoints
from multimodal.parallel.processes import to_global
from multimodal.parallel.topology import tpu_devices
from multimodal.planning.plan import plan
from tests.toy import build, host_batch, replace, run_steps, toy_config


def run_with(offload: bool, **mesh):
    return build(replace(toy_config(), optimizer__offload=offload), devices=4, **mesh)


def kinds(tree):
    return {leaf.sharding.memory_kind for leaf in jax.tree.leaves(tree) if leaf.ndim}


def test_steps_are_the_same_to_the_bit_and_moments_alone_lie_with_the_host():
    plain, offloaded = (run_with(offload, data=2, fsdp=2) for offload in (False, True))
    batches = [host_batch(plain.config, seed) for seed in range(2)]
    wanted, _ = run_steps(plain, batches)
    (task,) = offloaded.tasks.values()
    with jax.set_mesh(offloaded.mesh):
        state = offloaded.initialise()
        for batch in batches:
            assert kinds(state.opt_state) == {"pinned_host"}
            assert kinds(state.params) == {"device"}
            state, _ = task.step(state, to_global(batch, offloaded.mesh))
    assert kinds(state.opt_state) == {"pinned_host"}
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(state), wanted)


@pytest.mark.parametrize("saved", [False, True])
def test_a_checkpoint_resumes_either_way(tmp_path, saved):
    run, other = run_with(saved, fsdp=2, data=2), run_with(not saved, fsdp=4, data=1)
    with jax.set_mesh(run.mesh):
        state = run.initialise()
    checkpoints = Checkpoints(tmp_path, config.Checkpoints(every=1))
    checkpoints.save(1, state, {})
    checkpoints.wait()
    restored = checkpoints.restore(1, other.abstract_state)
    assert kinds(restored.opt_state) == {"device" if saved else "pinned_host"}
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(restored), jax.device_get(state))


def test_on_a_tpu_they_take_the_hosts_memory_and_none_of_the_devices():
    settings = toy_config(mesh=config.MeshShape(data=1, fsdp=4))
    plain, offloaded = (
        plan(replace(settings, optimizer__offload=offload), "v5e:2x2", tpu_devices("v5e:2x2"))
        for offload in (False, True)
    )
    moments = 2 * plain.state["parameters"]
    assert plain.figures()["host_bytes_per_device"] == 0
    # Every array takes whole tiles of memory, far larger than a toy's biases.
    assert moments <= offloaded.figures()["host_bytes_per_device"] < 2 * moments
    assert offloaded.state["optimizer"] == plain.state["optimizer"] - moments
    assert offloaded.state["parameters"] == plain.state["parameters"]
