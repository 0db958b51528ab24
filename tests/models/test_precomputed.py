"""Features computed beforehand stand for a frozen tower (LiT): same outputs, same gradients, and a
frozen tower costs a forward pass and nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multimodal import config
from multimodal.checks import check
from multimodal.errors import UserError
from multimodal.parallel.processes import to_global
from multimodal.training.flops import count_flops
from multimodal.training.gradients import loss_and_gradient
from multimodal.training.state import split
from tests.commands import FUSED
from tests.toy import build, host_batch, replace, toy_config

FROZEN = "towers/image/(?!projection).*"
WIDTH = 64


def frozen():
    return replace(
        toy_config(),
        optimizer__rules=(config.Rule(FROZEN, None),),
        model__towers__text__transformer__dropout=0.1,
    )


def precomputed():
    settings = replace(
        frozen(), model__towers__image=config.Precomputed(WIDTH, projection="linear")
    )
    fields = {"image_features": "image_features", "text": "captions"}
    settings = replace(settings, optimizer__rules=(), tasks__pairs__data__fields=fields)
    check(settings)
    return settings


def gradient(run, params, batch, microbatches):
    """Of all that is trained, with the text tower's dropout on."""
    trained, rest = split(params, frozenset(params) - whole_tower(params))

    def apply(trained, batch, key):
        return run.model.bind(trained | rest)(batch, key)

    objectives, key = run.tasks["pairs"].objectives, jax.random.key(3)
    return loss_and_gradient(apply, objectives, trained, batch, key, microbatches)


def whole_tower(params):
    return {p for p in params if p.startswith("towers/image/") and "projection" not in p}


@pytest.mark.parametrize("microbatches", [1, 4])
def test_features_give_the_gradients_of_the_frozen_tower(microbatches):
    live, cheap = build(frozen()), build(precomputed())
    params = live.model.init(jax.random.key(0))
    left = {path: x for path, x in params.items() if path not in whole_tower(params)}
    assert {path: x.shape for path, x in left.items()} == {
        path: x.shape for path, x in cheap.model.shapes().items()
    }
    batch = host_batch(live.config, broken=2)

    def both(params, left, batch):
        """In one program, so that features are rounded once."""
        pooled = live.model.bind(params).towers["image"](batch["image"])["pooled"]
        features = {"image_features": pooled, "text": batch["text"], "valid": batch["valid"]}
        assert cheap.abstract_batch().keys() == features.keys()
        return (
            gradient(live, params, batch, microbatches),
            gradient(cheap, left, features, microbatches),
        )

    with jax.set_mesh(live.mesh):
        function = jax.jit(both).lower(params, left, batch).compile(FUSED)
        (want_loss, _, want), (loss, _, got) = jax.device_get(function(params, left, batch))
    np.testing.assert_allclose(loss, want_loss, rtol=1e-6)
    assert got.keys() == want.keys()
    for path in want:
        atol = 1e-6 * np.abs(want[path]).max()
        np.testing.assert_allclose(got[path], want[path], rtol=0, atol=atol, err_msg=path)
        assert np.any(got[path])


def test_a_frozen_tower_costs_a_forward_pass_and_no_state():
    run, settings = build(frozen()), frozen()
    params = run.model.shapes()
    tower = whole_tower(params)
    assert not any(path in str(keys) for keys, _ in _moments(run) for path in tower)
    assert len(_moments(run)) == 2 * (len(params) - len(tower))

    shape = run.abstract_batch()["image"]
    forward = count_flops(lambda p, x: run.model.bind(p).towers["image"](x), params, shape)
    step = count_flops(run.tasks["pairs"].step, run.abstract_state, run.abstract_batch())
    without = build(precomputed())
    rest = count_flops(
        without.tasks["pairs"].step, without.abstract_state, without.abstract_batch()
    )
    projection = 2 * settings.batch_size * WIDTH * settings.model.embed
    # The projection of features that no gradient flows into is the same in both.
    assert step == rest + forward - projection


def _moments(run):
    leaves = jax.tree.leaves_with_path(run.abstract_state.opt_state)
    return [(keys, x) for keys, x in leaves if x.ndim or x.dtype != jnp.int32]


def test_the_frozen_tower_stays_and_the_rest_moves():
    run = build(frozen(), 4, data=2, fsdp=2)
    with jax.set_mesh(run.mesh):
        state = run.initialise()
        first = jax.device_get(state.params)
        batch = to_global(host_batch(run.config), run.mesh)
        state, figures = run.tasks["pairs"].step(state, batch)
    for path, x in state.params.items():
        assert np.array_equal(x, first[path]) == (path in whole_tower(first)), path
    assert np.isfinite(figures["loss"])


def test_features_of_another_width_are_named():
    run = build(precomputed())
    params = run.model.init(jax.random.key(0))
    with pytest.raises(UserError, match="features are 32 wide, but .* width=64"):
        run.model.bind(params).encode("image", np.zeros((2, 32), np.float32))
