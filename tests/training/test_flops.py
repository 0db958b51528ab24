"""The count of floating-point operations against closed forms and XLA's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from multimodal import zoo
from multimodal.config import DualEncoder, from_dict
from multimodal.models.build import build as build_model
from multimodal.parallel.mesh import make_mesh
from multimodal.parallel.topology import tpu_devices
from multimodal.planning import plan
from multimodal.preprocessing import Preprocessing
from multimodal.training.flops import count_flops, training_flops
from tests.toy import build, replace, toy_config


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


def test_products():
    assert count_flops(jnp.matmul, shape(3, 5), shape(5, 7)) == 2 * 3 * 5 * 7
    assert count_flops(jnp.matmul, shape(4, 3, 5), shape(4, 5, 7)) == 2 * 4 * 3 * 5 * 7
    assert count_flops(lambda x: jnp.sin(x) + x.sum(), shape(3, 5)) == 0


def test_a_convolution_counts_its_window_and_groups():
    def convolve(groups):
        def function(x, kernel):
            return jax.lax.conv_general_dilated(
                x, kernel, (2, 2), "SAME", feature_group_count=groups,
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )  # fmt: skip

        return count_flops(function, shape(2, 8, 8, 6), shape(3, 3, 6 // groups, 12))

    assert convolve(1) == 2 * (2 * 4 * 4 * 12) * (3 * 3 * 6)
    assert convolve(3) == 2 * (2 * 4 * 4 * 12) * (3 * 3 * 2)


def test_what_is_inside_counts_as_often_as_it_runs():
    w = shape(5, 5)
    once = 2 * 3 * 5 * 5

    def scanned(x, w):
        step = jax.checkpoint(lambda x, _: (jax.jit(jnp.matmul)(x, w), None))
        return jax.lax.scan(step, x, None, length=6)[0]

    def chosen(x, w):
        return jax.lax.cond(x.sum() > 0, lambda x: x @ w @ w, lambda x: x, x)

    assert count_flops(scanned, shape(3, 5), w) == 6 * once
    assert count_flops(chosen, shape(3, 5), w) == 2 * once


def test_a_shard_map_runs_on_each_device():
    mesh = make_mesh({"data": 2, "fsdp": 4})

    def local(x, w):
        return jax.lax.scan(lambda x, _: (x @ w, None), x, None, length=3)[0]

    def product(x, w):
        specs = (PartitionSpec(("data", "fsdp")), PartitionSpec())
        return jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=specs[0])(x, w)

    assert count_flops(product, shape(16, 5), shape(5, 5)) == 3 * 2 * 16 * 5 * 5


def test_what_no_result_depends_on_is_not_computed():
    def function(x, w):
        carried = jax.lax.scan(lambda c, _: ((c[0] @ w, c[1] @ w), None), (x, x), None, length=3)
        return carried[0][0], (x @ w).shape

    assert count_flops(function, shape(3, 5), shape(5, 5)) == 3 * 2 * 3 * 5 * 5


def test_training_costs_three_forward_passes_of_what_is_trained_and_one_of_the_rest():
    def loss(trained, frozen, x):
        step = jax.checkpoint(lambda x, w: (jnp.tanh(x @ w), None))
        x = jax.lax.scan(step, x @ frozen["in"], frozen["stack"])[0]  # 1 + 4 products
        return jnp.sum(jax.lax.scan(step, x, trained)[0])  # 2 products

    frozen = {"in": shape(5, 5), "stack": shape(4, 5, 5)}
    product = 2 * 3 * 5 * 5
    assert training_flops(loss, shape(2, 5, 5), frozen, shape(3, 5)) == (5 + 3 * 2) * product


def test_what_a_scan_carries_is_trained_from_its_second_step_on():
    def loss(trained, x):
        def step(carry, _):
            x, w = carry
            return (x @ x, trained), None

        return jax.lax.scan(step, (x, x), None, length=4)[0]

    product = 2 * 5**3
    assert training_flops(loss, shape(5, 5), shape(5, 5)) == 4 * product
    assert training_flops(lambda w, x: loss(w, x @ w), shape(5, 5), shape(5, 5)) == 15 * product


def tower(tokens, width, mlp, depth):
    """Forward FLOPs of one example through a stack: four projections, scores and sum, MLP."""
    attention = 4 * tokens * width**2 + 2 * tokens**2 * width
    return depth * 2 * (attention + 2 * tokens * width * mlp)


def forward_flops(run):
    one = {n: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype) for n, x in
           run.abstract_batch().items()}  # fmt: skip
    return count_flops(lambda p, b: run.model.bind(p)(b), run.model.shapes(), one)


@pytest.mark.parametrize("scan", [True, False])
def test_a_dual_encoder_equals_the_closed_form(scan):
    settings = toy_config()
    for name in ("image", "text"):
        settings = replace(settings, **{f"model__towers__{name}__transformer__scan": scan})
    run = build(settings)
    width, mlp, depth, embed = 64, 128, 2, 32
    patches, patch = (32 // 8) ** 2, 8 * 8 * 3
    image = 2 * patches * patch * width + tower(patches, width, mlp, depth)
    # The pooler: one query over all patches, and its own MLP.
    image += 2 * (2 * width**2 + 2 * patches * width**2 + 2 * patches * width)
    image += 2 * 2 * width * mlp
    text = tower(32, width, mlp, depth)
    assert forward_flops(run) == image + text + 2 * 2 * width * embed
    logits = 2 * settings.batch_size * embed  # of one example with the whole batch
    example = image + text + 2 * 2 * width * embed + logits
    assert run.model_flops() == 3 * settings.batch_size * example


def test_what_a_run_needs_does_not_depend_on_the_kernel_of_attention():
    """A kernel computes whole tiles, of which a toy's few tokens fill a corner."""
    plain, tiled = (
        plan.build(
            replace(toy_config(), model__towers__text__transformer__attention=kernel),
            tpu_devices("v5e:2x2"),
        )
        for kernel in ("xla", "splash")
    )
    assert tiled.model_flops() == plain.model_flops()


def test_agrees_with_the_compiler_on_an_unrolled_model():
    """XLA adds what is no product, which is little in a wide model."""
    settings = toy_config()
    for name in ("image", "text"):
        tower = f"model__towers__{name}__transformer__"
        settings = replace(settings, **{tower + "scan": False, tower + "width": 256})
        settings = replace(settings, **{tower + "mlp": 512})
    run = build(settings)
    batch = {n: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype) for n, x in
             run.abstract_batch().items()}  # fmt: skip
    forward = jax.jit(lambda p, b: run.model.bind(p)(b))
    told = forward.lower(run.model.shapes(), batch).cost_analysis()["flops"]
    assert 1 <= told / forward_flops(run) < 1.05
    assert np.isfinite(told)


# GFLOPs of one picture with its text, forward: open_clip's docs/model_profile.csv, which counts
# multiply-adds, times two.
PUBLISHED = {
    "ViT-B-32": 14.78,
    "ViT-B-16": 41.09,
    "ViT-L-14": 175.33,
    "ViT-H-14": 381.68,
    "ViT-g-14": 581.15,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_models_of_the_zoo_cost_what_was_published(name):
    named = zoo.clip(name)
    model = from_dict(DualEncoder, named["model"])
    model = build_model(model, from_dict(Preprocessing, named["preprocessing"]), "bfloat16")
    size = named["preprocessing"]["image_size"]
    one = {
        "image": jax.ShapeDtypeStruct((1, size, size, 3), jnp.uint8),
        "text": jax.ShapeDtypeStruct((1, 77), jnp.int32),
    }
    flops = count_flops(lambda params, batch: model.bind(params)(batch), model.shapes(), one)
    assert flops / 1e9 == pytest.approx(PUBLISHED[name], rel=0.01)
