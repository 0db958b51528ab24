"""One step: prepare the batch, gradient, optimiser, new state."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from multimodal.models.build import Model
from multimodal.objectives.objective import Batch, Metrics, Objective
from multimodal.training import ema
from multimodal.training.gradients import loss_and_gradient
from multimodal.training.schedule import Schedule
from multimodal.training.state import TrainState, seed_keys, split


class StepSettings(NamedTuple):
    """What all tasks of a run share."""

    optimizer: optax.GradientTransformation
    schedule: Schedule
    trainable: frozenset[str]
    seed: int
    accumulate: int = 1
    ema: float | None = None


def make_step(
    model: Model, objectives: Mapping[str, Objective], settings: StepSettings
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """The step of one task, a pure function of (state, batch) to be jitted with the state donated.

    Random numbers depend on the run's seed and the state's step alone. The figures: loss, each
    objective's, gradient_norm (before clipping), learning_rate, valid (share of whole examples).
    """
    s = settings

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        _, steps_key = seed_keys(s.seed)
        prepare_key, model_key = jax.random.split(jax.random.fold_in(steps_key, state.step))
        for number, objective in enumerate(objectives.values()):
            batch = objective.prepare(batch, jax.random.fold_in(prepare_key, number))
        trained, frozen = split(state.params, s.trainable)

        def apply(trained, batch, key):
            return model.bind(trained | frozen)(batch, key)

        loss, metrics, gradient = loss_and_gradient(
            apply, objectives, trained, batch, model_key, s.accumulate
        )
        updates, opt_state = s.optimizer.update(gradient, state.opt_state, trained)
        params = optax.apply_updates(trained, updates) | frozen
        params |= {path: jnp.minimum(params[path], m) for path, m in model.largest.items()}
        params = {path: params[path] for path in state.params}
        average = state.ema
        if s.ema is not None:
            average = ema.update(average, params, s.ema, state.step)
        metrics = metrics | {
            "loss": loss,
            "gradient_norm": optax.tree.norm(gradient),
            "learning_rate": s.schedule(state.step),
            "valid": batch["valid"].mean(dtype=jnp.float32),
        }
        return TrainState(state.step + 1, params, opt_state, average), metrics

    return step
