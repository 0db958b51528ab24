"""One step: prepare the batch, gradient, optimiser, new state."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec

from multimodal.models.build import Model, Params
from multimodal.objectives.objective import Batch, Metrics, Objective
from multimodal.parallel.gather import Gather, spread
from multimodal.parallel.local import Local
from multimodal.training import ema
from multimodal.training.gradients import in_microbatches, loss_and_gradient
from multimodal.training.layers import last_layers
from multimodal.training.schedule import Schedule
from multimodal.training.state import TrainState, seed_keys, split


class StepSettings(NamedTuple):
    """What all tasks of a run share. `fetched`: where the optimiser's state lies on the devices, if
    it is elsewhere between the steps."""

    optimizer: optax.GradientTransformation
    schedule: Schedule
    trainable: frozenset[str]
    seed: int
    accumulate: int = 1
    ema: float | None = None
    gather: Gather | None = None
    specs: Mapping[str, PartitionSpec] | None = None
    locked: Mapping[str, int] = MappingProxyType({})
    fetched: optax.OptState | None = None


def make_step(
    model: Model,
    objectives: Mapping[str, Objective],
    settings: StepSettings,
    later: Mapping[str, Objective] | None = None,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """The step of one task, a pure function of (state, batch) to be jitted with the state donated.

    Parameters that only objectives of `later`, which have yet to begin, read stay as they are:
    decay would wear them down to nothing before they are first used.

    Random numbers depend on the run's seed and the state's step alone. The figures: loss, each
    objective's, gradient_norm (before clipping), learning_rate, valid (share of whole examples).
    """
    s = settings
    bound, local = lambda params, batch, key: model.bind(params)(batch, key), None
    joint = all(o.joint for o in objectives.values())
    if s.gather is not None and s.gather.keep and s.accumulate > 1 and joint:
        local = Local(s.gather, s.specs)
    elif s.gather is not None:
        bound = spread(bound, s.gather, s.specs, model.stacked)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        _, steps_key = seed_keys(s.seed)
        prepare_key, model_key = jax.random.split(jax.random.fold_in(steps_key, state.step))
        waiting = frozenset()
        if later:
            waiting = read_by(model, {**objectives, **later}, state.params, batch)
            waiting -= read_by(model, objectives, state.params, batch)
        batch = prepare(objectives, batch, prepare_key)
        taught, constants = teach(model, objectives, state.ema, batch, s.accumulate)
        batch |= taught
        trained, frozen = split(state.params, s.trainable)

        def apply(params, batch, key):
            return bound(params, batch, key) | constants

        loss, metrics, gradient = loss_and_gradient(
            apply, objectives, trained, batch, model_key, s.accumulate, frozen, local
        )
        opt_state = state.opt_state
        if s.fetched is not None:
            opt_state = jax.device_put(opt_state, s.fetched)
        updates, opt_state = s.optimizer.update(gradient, opt_state, trained)
        params = optax.apply_updates(trained, updates) | frozen
        params |= {path: jnp.minimum(params[path], m) for path, m in model.largest.items()}
        params |= {path: state.params[path] for path in waiting}
        params = {path: params[path] for path in state.params}
        average = state.ema
        if s.ema is not None:
            average = ema.update(average, params, s.ema, state.step)
        metrics = metrics | {
            "loss": loss,
            "gradient_norm": optax.tree.norm(last_layers(gradient, s.locked)),
            "learning_rate": s.schedule(state.step),
            "valid": batch["valid"].mean(dtype=jnp.float32),
        }
        return TrainState(state.step + 1, params, opt_state, average), metrics

    return step


def read_by(
    model: Model, objectives: Mapping[str, Objective], params: Params, batch: Batch
) -> frozenset[str]:
    """Paths of the parameters that the objectives' losses depend on. Nothing is computed."""

    def losses(params: Params, average: Params, batch: Batch) -> list[jax.Array]:
        key = jax.random.key(0)
        batch = prepare(objectives, batch, key)
        taught, constants = teach(model, objectives, average, batch, 1)
        outputs = model.bind(params)(batch, key) | constants
        return [o.loss(outputs, batch | taught, batch | taught)[0] for o in objectives.values()]

    jaxpr = jax.make_jaxpr(losses)(params, params, batch).jaxpr
    needed = set(jaxpr.outvars)
    for equation in reversed(jaxpr.eqns):
        if not needed.isdisjoint(equation.outvars):
            needed.update(v for v in equation.invars if not hasattr(v, "val"))  # no literals
    paths = sorted(params)  # the order of a dictionary's leaves
    return frozenset(p for p, v in zip(paths, jaxpr.invars, strict=False) if v in needed)


def prepare(objectives: Mapping[str, Objective], batch: Batch, key: jax.Array) -> Batch:
    """The batch as all objectives, one after the other, change it."""
    for number, objective in enumerate(objectives.values()):
        batch = objective.prepare(batch, jax.random.fold_in(key, number))
    return batch


def teach(
    model: Model,
    objectives: Mapping[str, Objective],
    average: Params | None,
    batch: Batch,
    microbatches: int,
) -> tuple[Batch, dict]:
    """What the teacher says of the batch, by `teacher/NAME`, and its weights for the outputs."""
    taught = [o for o in objectives.values() if hasattr(o, "teacher_reads")]
    if not taught:
        return {}, {}
    teacher = model.bind(average)
    reads = {name for o in taught for name in o.teacher_reads}

    def say(batch: Batch) -> dict:
        outputs = teacher(batch)
        return {f"teacher/{name}": outputs[name] for name in reads}

    seen = {name: batch[name] for o in taught for name in o.teacher_sees}
    return in_microbatches(say, seen, microbatches), {"teacher/weights": teacher({})["weights"]}
