"""Every recipe is built, checked and stepped twice at a tiny size on four devices; thirty times,
with falling loss, in `make test-slow`."""

import dataclasses

import jax
import numpy as np
import pytest

from multimodal import experiment
from multimodal.checks import check
from multimodal.parallel.processes import to_global
from tests.configs import recipes
from tests.configs.tiny import DEVICES, shrink, write_features


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The run of a recipe made small, built and checked."""
    folder = tmp_path_factory.mktemp("data")
    write_features(folder)

    def of(name, **sizes):
        config = dataclasses.replace(shrink(recipes.load(name), **sizes), data_dir=str(folder))
        check(config)
        return experiment.build(config, jax.devices()[:DEVICES])

    return of


def start(run):
    """The first state; one operation after the other, as all recipes have the same small ones."""
    return jax.device_put(run.initialise.__wrapped__(), run.shardings)


def take(run, task, state, count):
    """The state after `count` steps of a task, and the figures of each."""
    shapes, history = run.abstract_batch(task), []
    step = run.tasks[task].step.lower(run.abstract_state, shapes).compile()
    with run.batches(task) as stream:
        for _ in range(count):
            drawn = next(stream)
            batch = {key: drawn[key] for key in shapes}
            state, figures = step(state, to_global(batch, run.mesh))
            history.append(jax.device_get(figures))
    return state, history


@pytest.mark.parametrize("name", recipes.names())
def test_two_steps_move_all_that_is_trained_and_nothing_else(name, tiny, monkeypatch):
    monkeypatch.chdir(recipes.ROOT)
    run = tiny(name)
    with jax.set_mesh(run.mesh):
        state = start(run)
        first = jax.device_get(state.params)
        for task in run.tasks:
            state, history = take(run, task, state, 2)
            for figures in history:
                assert all(np.isfinite(value) for value in figures.values()), (task, figures)
                assert figures["valid"] == 1 and figures["gradient_norm"] > 0, (task, figures)
    assert state.step == 2 * len(run.tasks)
    for path, value in jax.device_get(state.params).items():
        assert np.isfinite(value).all(), path
        # A key bias shifts all scores of a query alike: its gradient is rounding.
        if not path.endswith("key/bias"):
            assert (value != first[path]).any() == (path in run.trained), path


@pytest.mark.slow
@pytest.mark.parametrize("name", recipes.names())
def test_thirty_steps_bring_the_loss_down(name, tiny, monkeypatch):
    monkeypatch.chdir(recipes.ROOT)
    losses = 0
    for task in tiny(name).tasks:
        run = tiny(name, steps=30, learning_rate=1e-3)
        with jax.set_mesh(run.mesh):
            _, history = take(run, task, start(run), 30)
        losses += np.array([figures["loss"] for figures in history])
    print(name, losses.round(3))
    assert losses[-5:].mean() < losses[:5].mean(), losses
