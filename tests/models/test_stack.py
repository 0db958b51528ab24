"""The stack: scanned, unrolled, rematerialised; where dropout and drop path strike."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from multimodal.config import Transformer
from multimodal.models.layers import drop_path, dropout
from multimodal.models.rngs import Rngs
from multimodal.models.stack import Stack
from tests.models import oracle

SETTINGS = Transformer(width=8, depth=3, heads=2, mlp=12)
NOISY = dataclasses.replace(SETTINGS, dropout=0.3, attention_dropout=0.2, drop_path=0.4)
X = np.random.default_rng(0).normal(size=(4, 5, 8)).astype(np.float32)
KEY = jax.random.key(7)


def run(settings, key=None, capture=(), x=X):
    stack = oracle.randomised(Stack(settings, rngs=Rngs(0)))
    return stack(x, key=key, capture=capture)


def loss_and_grads(settings):
    """A jitted function of the key: loss, hidden states, gradients."""
    stack = oracle.randomised(Stack(settings, rngs=Rngs(0)))
    graph, params = nnx.split(stack)

    def loss(params, key):
        y, kept = nnx.merge(graph, params)(X, key=key, capture=("hidden",))
        return jnp.square(y).mean(), kept["hidden"]

    run = jax.jit(jax.value_and_grad(loss, has_aux=True))
    return lambda key: run(params, key)


def test_a_stack_of_nothing_gives_what_it_is_given():
    y, kept = run(dataclasses.replace(SETTINGS, depth=0), KEY, ("hidden", "attention"))
    np.testing.assert_array_equal(y, X)
    np.testing.assert_array_equal(kept["hidden"], X[None])
    assert "attention" not in kept


@pytest.fixture(scope="module")
def reference():
    return loss_and_grads(NOISY)


@pytest.mark.parametrize(
    ("keep", "scan"),
    [("everything", False), ("products", True), ("inputs", True), ("inputs", False)],
)
def test_masks_repeat_under_rematerialisation_and_unrolling(reference, keep, scan):
    got = loss_and_grads(dataclasses.replace(NOISY, keep=keep, scan=scan))(KEY)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(reference(KEY)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_another_key_drops_others(reference):
    assert not np.allclose(reference(KEY)[0][1], reference(jax.random.key(8))[0][1])


def test_layers_are_applied_in_order():
    stack = oracle.randomised(Stack(SETTINGS, rngs=Rngs(0)))
    y, kept = stack(X, capture=("hidden", "attention"))
    assert kept["hidden"].shape == (4, 4, 5, 8) and kept["attention"].shape == (3, 4, 2, 5, 5)
    graph, params = nnx.split(stack.blocks)
    x = X
    np.testing.assert_array_equal(kept["hidden"][0], x)
    for i in range(3):
        x, _ = nnx.merge(graph, jax.tree.map(lambda p, i=i: p[i], params))(x)
        np.testing.assert_allclose(kept["hidden"][i + 1], x, atol=1e-5)
    np.testing.assert_array_equal(kept["hidden"][-1], y)


def test_without_a_key_nothing_is_dropped():
    np.testing.assert_array_equal(run(NOISY)[0], run(SETTINGS)[0])


def steps(settings, key, branch, batch=4):
    """What each layer adds, [depth, batch, length, width], when one branch yields ones alone."""
    stack = Stack(settings, rngs=Rngs(0))
    graph, params = nnx.split(stack)
    params = jax.tree.map(jnp.zeros_like, params)
    stack = nnx.merge(graph, params)
    layer = {"attention": stack.blocks.attention.out, "mlp": stack.blocks.mlp.down}[branch]
    layer.bias[...] = jnp.ones_like(layer.bias[...])
    hidden = stack(jnp.zeros((batch, 5, 8)), key=key, capture=("hidden",))[1]["hidden"]
    return np.diff(np.asarray(hidden), axis=0)


@pytest.mark.parametrize("branch", ["attention", "mlp"])
@pytest.mark.parametrize("scan", [True, False])
def test_dropout_masks_differ_by_layer_example_and_step(scan, branch):
    settings = dataclasses.replace(SETTINGS, dropout=0.5, scan=scan)
    added = steps(settings, KEY, branch, batch=200)
    assert set(np.unique(added)) == {0.0, 2.0}
    assert abs((added == 0).mean() - 0.5) < 5 * 0.5 / added.size**0.5
    for i in range(3):
        for j in range(i):
            assert abs((added[i] == added[j]).mean() - 0.5) < 0.05  # independent
    assert abs((added[:, 0] == added[:, 1]).mean() - 0.5) < 0.3
    other_step = steps(settings, jax.random.key(8), branch, batch=200)
    assert abs((added == other_step).mean() - 0.5) < 0.03
    np.testing.assert_array_equal(added, steps(settings, KEY, branch, batch=200))


def test_branches_of_a_layer_have_different_masks():
    settings = dataclasses.replace(SETTINGS, dropout=0.5)
    attention, mlp = (steps(settings, KEY, b, batch=200) for b in ("attention", "mlp"))
    assert abs((attention == mlp).mean() - 0.5) < 0.03


def test_drop_path_takes_whole_examples_more_often_the_deeper():
    settings = dataclasses.replace(SETTINGS, drop_path=0.5)
    added = steps(settings, KEY, "mlp", batch=4000)
    whole = added[:, :, 0, 0]
    np.testing.assert_array_equal(added, np.broadcast_to(whole[..., None, None], added.shape))
    for layer, rate in enumerate([0.0, 0.25, 0.5]):
        dropped = (whole[layer] == 0).mean()
        assert abs(dropped - rate) <= 5 * (rate * (1 - rate) / 4000) ** 0.5
        np.testing.assert_allclose(whole[layer][whole[layer] != 0], 1 / (1 - rate), rtol=1e-6)
    both = ((whole[1] == 0) & (whole[2] == 0)).mean()
    assert abs(both - 0.25 * 0.5) < 0.03  # not one mask for all layers


def test_dropout_keeps_the_mean_and_the_dtype():
    x = jnp.ones((100, 100), jnp.bfloat16)
    y = dropout(x, 0.2, KEY)
    assert y.dtype == x.dtype
    assert abs(np.asarray(y, np.float32).mean() - 1) < 0.03
    assert dropout(x, 0.2, None) is x and dropout(x, 0.0, KEY) is x


def test_drop_path_keeps_the_mean_and_the_dtype():
    x = jnp.ones((4000, 2, 3), jnp.bfloat16)
    y = drop_path(x, jnp.float32(0.25), KEY)
    assert y.dtype == x.dtype
    assert abs(np.asarray(y, np.float32).mean() - 1) < 0.05
    assert drop_path(x, jnp.float32(0.25), None) is x
