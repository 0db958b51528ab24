"""The count of floating-point operations against closed forms and XLA's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multimodal.training.flops import count_flops
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
