"""Layers of a stack that train differently, against steps taken one layer at a time in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from multimodal.config import Optimizer, Rule
from multimodal.errors import UserError
from multimodal.training import optimizer
from multimodal.training.layers import layer_factors
from multimodal.training.optimizer import locked_layers, make_optimizer
from tests.toy import build, host_batch, replace, run_steps, toy_config

DEPTH, RATE = 4, 0.1
KERNEL, BIAS = "image/stack/blocks/kernel", "image/stack/blocks/bias"
SHAPES = {
    KERNEL: (DEPTH, 40, 32),
    BIAS: (DEPTH, 32),
    "image/patches/linear/kernel": (12, 40),
    "image/projection/kernel": (40, 8),
    "temperature/scale": (),
}
STACKED = frozenset({KERNEL, BIAS})
BLOCKS = "towers/image/stack/blocks/"


def draw(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {path: rng.normal(size=shape).astype("f4") for path, shape in SHAPES.items()}


def steps(settings: Optimizer, params: dict, gradients: list[dict], stacked=STACKED):
    params = {path: jnp.asarray(x) for path, x in params.items()}
    chain = make_optimizer(settings, 100, params, stacked)
    state = chain.init(params)
    for gradient in gradients:
        updates, state = jax.jit(chain.update)(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return jax.device_get(params), state


@pytest.mark.parametrize("name", ["adamw", "lion", "adafactor"])
def test_the_last_layers_move_as_if_they_were_all_there_is(name):
    """Clipping, state and decay included; and the state is as large as theirs."""
    settings = Optimizer(name=name, learning_rate=RATE, weight_decay=0.3, clip_norm=1.0)
    last = replace(settings, rules=(Rule("image/stack/.*", None, unlocked=1),))
    params, gradients = draw(0), [draw(1), draw(2), draw(3)]
    cut = lambda tree: {p: x[-1:] if p in STACKED else x for p, x in tree.items()}  # noqa: E731
    wanted, alone = steps(settings, cut(params), [cut(g) for g in gradients])
    found, state = steps(last, params, gradients)
    for path, x in found.items():
        if path in STACKED:
            assert (x[:-1] == params[path][:-1]).all(), path
            x = x[-1:]
        np.testing.assert_allclose(x, wanted[path], rtol=1e-6, err_msg=path)
    size = lambda tree: sum(x.size for x in jax.tree.leaves(tree))  # noqa: E731
    assert size(state) == size(alone)


def test_rates_fall_from_the_head_to_the_embeddings():
    """Lion moves every entry by the rate: what is left is the factor."""
    settings = Optimizer(name="lion", learning_rate=RATE, schedule="constant", clip_norm=None,
                         layer_decay=0.5, rules=(Rule("image/stack/.*", 2.0),))  # fmt: skip
    params = draw(0)
    found, _ = steps(settings, params, [draw(1)])
    moved = {p: np.abs(x - params[p]) / RATE for p, x in found.items()}
    for layer, factor in enumerate((1 / 16, 1 / 8, 1 / 4, 1 / 2)):
        for path in STACKED:
            np.testing.assert_allclose(moved[path][layer], 2 * factor, rtol=1e-4)
    np.testing.assert_allclose(moved["image/patches/linear/kernel"], 1 / 32, rtol=1e-4)
    for path in ("image/projection/kernel", "temperature/scale"):
        np.testing.assert_allclose(moved[path], 1.0, rtol=1e-4)


def test_decay_of_layers_and_locked_layers_together():
    rules = (Rule("image/stack/.*", None, unlocked=2),)
    settings = Optimizer(name="lion", learning_rate=RATE, schedule="constant", clip_norm=None,
                         layer_decay=0.5, rules=rules)  # fmt: skip
    params = draw(0)
    moved = np.abs(steps(settings, params, [draw(1)])[0][BIAS] - params[BIAS]) / RATE
    wanted = np.repeat([[0], [0], [1 / 4], [1 / 2]], 32, 1)
    np.testing.assert_allclose(moved, wanted, rtol=1e-4)


@pytest.mark.parametrize("family", ["dual_encoder", "siglip2", "coca", "uniter", "prefix_lm"])
def test_every_part_of_every_family_has_its_place(family):
    """What is before a stack of two layers, in it, and after it; by the names of the parts."""
    model = build(toy_config(family)).model
    shapes = model.shapes()
    found = {path: x.ravel() for path, x in layer_factors(0.5, shapes, model.stacked).items()}
    tables = ("tokens/table", "words/table", "/position", "patches/linear/kernel")
    after = ("head", "projection", "final_norm", "pooler", "temperature", "connector")
    for path, factor in found.items():
        if path in model.stacked:
            depth = shapes[path].shape[0]
            assert factor.tolist() == [0.5 ** (depth - i) for i in range(depth)], path
        elif path.endswith(tables):
            assert factor == 0.5 ** (2 if path.startswith("captioner/") else 3), path
        elif any(name in path for name in after):
            assert factor == 1, path
    assert any(path.endswith(tables) for path in found)


def test_a_step_leaves_the_first_layers_and_counts_only_the_last():
    settings = replace(toy_config(batch_size=8), optimizer__weight_decay=0.1,
                       optimizer__rules=(Rule("towers/image/.*", None, unlocked=1),
                                         Rule("towers/text/.*", None)))  # fmt: skip
    run = build(settings)
    first = jax.device_get(run.initialise()).params
    state, figures = run_steps(run, [host_batch(settings)])
    for path, x in state.params.items():
        if path.startswith(BLOCKS):
            assert (x[0] == first[path][0]).all(), path
            assert (x[1] != first[path][1]).any() or path.endswith("key/bias"), path
        else:
            assert (x != first[path]).any() == path.startswith("temperature"), path
    assert run.trained_count == 1 + sum(x[0].size for p, x in first.items() if p.startswith(BLOCKS))
    whole = build(replace(settings, optimizer__rules=(Rule("towers/text/.*", None),)))
    _, more = run_steps(whole, [host_batch(settings)])
    assert 0 < figures["gradient_norm"] < more["gradient_norm"]


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        (
            (Rule("image/patches/.*", None, unlocked=1),),
            "matches no stack of layers; paths of such",
        ),
        ((Rule("image/.*", None, unlocked=4),), "unlocked=4 freezes nothing of .* 4 layers"),
    ],
)
def test_what_unlocks_nothing_is_refused(rules, told):
    settings = Optimizer(rules=rules)
    with pytest.raises(UserError, match=told):
        paths = optimizer.trainable(settings, SHAPES, STACKED)
        shapes = {path: jax.ShapeDtypeStruct(SHAPES[path], "f4") for path in paths}
        locked_layers(settings, shapes, STACKED)


def test_layer_decay_without_a_stack_is_refused():
    settings = Optimizer(layer_decay=0.5, rules=(Rule("image/.*", None),))
    with pytest.raises(UserError, match="layer_decay: no stack of layers is trained"):
        make_optimizer(settings, 1, {"temperature/scale": jnp.zeros(())})
