"""The rule table: where parameters and activations go, also where sizes do not divide."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec

from multimodal import config, preprocessing, zoo
from multimodal.models.attention import Attention
from multimodal.models.build import build
from multimodal.models.initializers import block_init
from multimodal.models.rngs import Rngs
from multimodal.parallel.mesh import AXES, make_mesh
from multimodal.parallel.rules import (
    constrain,
    parameter_shardings,
    parameter_spec,
    placement_table,
)

P = PartitionSpec


def mesh_of(**sizes):
    return AbstractMesh(tuple(sizes.get(axis, 1) for axis in AXES), AXES)


KERNEL, BACK = ("layers", "embed", "mlp"), ("layers", "mlp", "embed")


@pytest.mark.parametrize(
    ("axes", "shape", "mesh", "wanted"),
    [
        (KERNEL, (12, 768, 3072), {"fsdp": 8, "tensor": 2}, P(None, "fsdp", "tensor")),
        (BACK, (12, 3072, 768), {"fsdp": 8, "tensor": 2}, P(None, "tensor", "fsdp")),
        (KERNEL, (12, 768, 3072), {"fsdp": 8}, P(None, "fsdp", None)),
        (KERNEL, (12, 768, 3072), {"data": 8}, P(None, None, None)),
        # So400m: 1152 = 2^7 * 9 and 4304 = 2^4 * 269.
        (KERNEL, (27, 1152, 4304), {"fsdp": 16, "tensor": 16}, P(None, "fsdp", "tensor")),
        (("embed", "vocab"), (1150, 4304), {"fsdp": 16}, P(None, "fsdp")),
        (KERNEL, (27, 1152, 4305), {"fsdp": 2, "tensor": 4}, P(None, ("tensor", "fsdp"), None)),
        (("vocab", "embed"), (32001, 1152), {"tensor": 8, "fsdp": 2}, P(None, ("tensor", "fsdp"))),
        (("layers", "heads"), (27, 1152), {"fsdp": 16, "tensor": 8}, P(None, ("tensor", "fsdp"))),
        # Depth is never split: the scan reads one layer at a time.
        (("layers", "mlp"), (64, 4304), {"fsdp": 64}, P(None, None)),
        (("embed",), (1152,), {"tensor": 8}, P(None)),
        ((), (), {"fsdp": 8}, P()),
    ],
)
def test_a_mesh_axis_that_does_not_divide_its_dimension_moves_to_another(axes, shape, mesh, wanted):
    assert parameter_spec(axes, shape, mesh_of(**mesh)) == wanted


@pytest.fixture(scope="module")
def so400m():
    named = zoo.siglip("SO400M-14")
    return build(
        config.from_dict(config.DualEncoder, named["model"]),
        config.from_dict(preprocessing.Preprocessing, named["preprocessing"]),
        "bfloat16",
    )


def bytes_a_device(model, mesh):
    shapes = model.shapes()
    shardings = parameter_shardings(model.axes, shapes, mesh)
    local = {path: shardings[path].shard_shape(leaf.shape) for path, leaf in shapes.items()}
    total = sum(math.prod(leaf.shape) for leaf in shapes.values())
    return 4 * sum(map(math.prod, local.values())), 4 * total


@pytest.mark.parametrize("mesh", [{"fsdp": 16, "tensor": 16}, {"data": 8, "fsdp": 32}, {"fsdp": 8}])
def test_widths_that_divide_by_little_are_not_replicated(so400m, mesh):
    mine, total = bytes_a_device(so400m, mesh_of(**mesh))
    shards = mesh["fsdp"] * mesh.get("tensor", 1)
    assert total / shards <= mine <= 1.06 * total / shards


def test_the_table_names_what_every_device_holds_whole(so400m):
    """fsdp=256 divides neither 1152 nor 4304: that is said, not silent."""
    mesh = mesh_of(fsdp=256)
    shapes = so400m.shapes()
    table = placement_table(shapes, parameter_shardings(so400m.axes, shapes, mesh))
    mine, total = bytes_a_device(so400m, mesh)
    assert mine > total / 2
    *_, summary, whole = table.splitlines()
    assert summary == f"parameters: {mine:,} bytes a device"
    assert whole.startswith("whole on every device, as no size divides over fsdp=256: ")
    assert "towers/image/stack/blocks/mlp/up/kernel" in whole and "tokens/table" not in whole
    small = placement_table(shapes, parameter_shardings(so400m.axes, shapes, mesh_of(data=256)))
    assert small.splitlines()[-1].startswith("parameters: ")


def test_constrain_without_a_mesh_or_with_one_device_does_nothing():
    x = jnp.ones((4, 6))
    assert constrain(x, "batch", "heads") is x
    with jax.set_mesh(make_mesh({"data": 1}, jax.devices()[:1])):
        assert constrain(x, "batch", "heads") is x


def test_constrain_places_by_name_and_leaves_short_dimensions_whole():
    mesh = make_mesh({"data": 2, "sequence": 4})
    x = jnp.arange(4 * 8 * 6.0).reshape(4, 8, 6)
    with jax.set_mesh(mesh):
        y = jax.jit(lambda x: constrain(x, "batch", "length", None))(x)
        one = jax.jit(lambda x: constrain(x[:, :1], "batch", "length", None))(x)
        with pytest.raises(ValueError):
            constrain(x, "batch", "length")
    assert y.sharding.is_equivalent_to(NamedSharding(mesh, P("data", "sequence")), 3)
    assert one.sharding.is_equivalent_to(NamedSharding(mesh, P("data")), 3)
    np.testing.assert_array_equal(y, x)


def test_constrain_inside_a_shard_map_leaves_its_axes_alone():
    def double(x):
        return constrain(x, "batch", "heads") * 2

    x = jnp.arange(32.0).reshape(4, 8)
    with jax.set_mesh(make_mesh({"data": 2, "tensor": 4})):
        local = jax.shard_map(double, in_specs=P("data"), out_specs=P("data"), axis_names={"data"})
        y = jax.jit(local)(x)
    np.testing.assert_array_equal(y, 2 * x)


@pytest.mark.parametrize("mesh", [{"data": 2, "sequence": 4}, {"sequence": 4, "tensor": 2}])
def test_fifty_tokens_over_four_devices_attend_as_on_one(mesh):
    """50 = 7 * 7 patches and a class token (ViT-B/32) divide by no sequence axis."""
    init = block_init(config.Transformer(width=24, heads=4, mlp=48, depth=2))
    graph, params = nnx.split(Attention(24, 4, init, rngs=Rngs(0)))
    x = jax.random.normal(jax.random.key(1), (4, 50, 24))

    @jax.jit
    def value_and_gradients(params, x):
        def loss(params, x):
            x = constrain(x, "batch", "length", None)
            y = nnx.merge(graph, params)(x)[0]
            return (constrain(y, "batch", "length", None) ** 2).sum()

        return jax.value_and_grad(loss, argnums=(0, 1))(params, x)

    wanted = value_and_gradients(params, x)
    with jax.set_mesh(make_mesh(mesh)):
        found = value_and_gradients(params, x)
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-5)
    # A key bias changes nothing: its gradient is rounding, so all are held to the largest.
    largest = max(np.abs(want).max() for want in jax.tree.leaves(wanted[1]))
    for got, want in zip(*map(jax.tree.leaves, (found[1], wanted[1])), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * largest)
