"""Devices that share the length of a sequence: the same step as one device's, and what long
attention takes on a TPU, compiled without one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multimodal.models.attention import attention
from multimodal.parallel.collectives import collectives, shapes
from multimodal.parallel.mesh import make_mesh
from multimodal.parallel.processes import to_global
from multimodal.parallel.topology import tpu_devices
from tests.toy import build, host_batch, replace, toy_config

TOWERS = ("image", "text")


def one_step(devices, attention, gather="compiler", **mesh):
    """The loss, the means of the gradients, and what is sent."""
    changes = {f"model__towers__{t}__transformer__attention": attention for t in TOWERS}
    config = replace(toy_config(batch_size=16), gather=gather, **changes)
    run = build(config, devices, **mesh)
    with jax.set_mesh(run.mesh):
        state, batch = run.initialise(), to_global(host_batch(config, broken=1), run.mesh)
        step = run.tasks["pairs"].step.lower(state, batch).compile()
        state, figures = step(state, batch)
    sent = collectives(step.as_text(), run.mesh)
    return float(figures["loss"]), jax.device_get(state.opt_state[1].mu), sent


@pytest.fixture(scope="module")
def alone():
    return one_step(1, "xla")


@pytest.mark.parametrize(
    ("gather", "mesh"),
    [
        ("compiler", {"data": 2, "sequence": 4}),
        ("step", {"data": 2, "fsdp": 4}),
    ],
)
def test_the_same_step_as_on_one_device(gather, mesh, alone):
    loss, means, sent = one_step(8, "blockwise", gather, **mesh)
    assert loss == pytest.approx(alone[0], rel=1e-5)
    for path, mean in alone[1].items():
        np.testing.assert_allclose(means[path], mean, atol=1e-5 * np.abs(mean).max() + 1e-7)
    along = [c for c in sent if "sequence" in c.axes]
    assert any(c.kind == "collective-permute" for c in along) == ("sequence" in mesh)
    # Of what is split along the length only the tables of positions, of no example, are gathered.
    gathered = [c for c in along if c.kind in ("all-gather", "all-to-all")]
    assert all(len(shape) < 3 for c in gathered for shape in c.shapes), gathered


HEADS, DIM, LENGTH = 12, 64, 4096


def long_attention(images, **mesh):
    """Forward and backward over 4,096 tokens, compiled for eight v5e chips."""
    mesh = make_mesh(mesh, tpu_devices("v5e:2x4"))
    split = jax.NamedSharding(mesh, jax.P("data", "sequence"))
    x = jax.ShapeDtypeStruct((images, LENGTH, HEADS, DIM), jnp.bfloat16, sharding=split)

    def loss(q, k, v, w):
        return (attention(q, k, v)[0] * w).sum(dtype=jnp.float32)

    with jax.set_mesh(mesh):
        program = jax.jit(jax.grad(loss, (0, 1, 2))).lower(x, x, x, x).compile()
    return program.as_text(), program.memory_analysis().temp_size_in_bytes, mesh


def test_4096_tokens_of_16_images_a_chip_take_little_room():
    text, bytes_taken, _ = long_attention(8 * 16, data=8)
    print(f"{bytes_taken / 2**30:.2f} GiB of temporaries")
    assert bytes_taken <= 2.7 * 2**30
    assert all(f"splash_mha_{phase}" in text for phase in ("fwd", "dq", "dkv"))
    assert not any(shape[-2:] == (LENGTH, LENGTH) for shape in shapes(text))


def test_chips_that_share_the_length_swap_heads_for_it():
    text, bytes_taken, mesh = long_attention(2 * 64, data=2, sequence=4)
    assert bytes_taken <= 2.7 * 2**30 and "splash_mha_fwd" in text
    sent = collectives(text, mesh)
    assert {(c.kind, c.axes) for c in sent} == {("all-to-all", frozenset({"sequence"}))}
    # Queries, keys, values and four gradients, once; no device is given all heads of all tokens.
    assert sum(c.bytes * c.times for c in sent) == 7 * 64 * LENGTH // 4 * HEADS * DIM * 2
