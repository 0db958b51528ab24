"""Everything that a step changes, in one pytree, born sharded."""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding

from multimodal.models.build import Model, Params
from multimodal.parallel.rules import parameter_shardings, replicated
from multimodal.training import ema
from multimodal.training.optimizer import state_shardings


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """`step` counts updates done; `ema` is None unless the run keeps one. Random keys are derived
    from the run's seed and `step`, so there is no key to keep."""

    step: jax.Array
    params: Params
    opt_state: optax.OptState
    ema: Params | None


def seed_keys(seed: int) -> tuple[jax.Array, jax.Array]:
    """The key of the initial parameters and that of all steps of a run."""
    init_key, steps_key = jax.random.split(jax.random.key(seed))
    return init_key, steps_key


def split(params: Mapping, trainable: frozenset[str]) -> tuple[dict, dict]:
    """(trainable, frozen) parts of anything by parameter path."""
    return (
        {path: leaf for path, leaf in params.items() if path in trainable},
        {path: leaf for path, leaf in params.items() if path not in trainable},
    )


def shardings(
    model: Model,
    optimizer: optax.GradientTransformation,
    trainable: frozenset[str],
    mesh: Mesh,
    with_ema: bool,
    over: tuple[str, ...] = ("fsdp",),
    offload: bool = False,
) -> TrainState:
    """The sharding of every leaf of the state, split `over` these mesh axes, as a TrainState of
    NamedShardings; `offload` leaves the optimiser's in the memory of the hosts."""
    shapes = model.shapes()
    params = parameter_shardings(model.axes, shapes, mesh, over)
    trained, _ = split(shapes, trainable)
    whole: NamedSharding = replicated(mesh)
    memory_kind = "pinned_host" if offload else None
    opt_state = state_shardings(optimizer, trained, params, mesh, memory_kind)
    return TrainState(whole, params, opt_state, params if with_ema else None)


def initialise(
    model: Model,
    optimizer: optax.GradientTransformation,
    trainable: frozenset[str],
    seed: int,
    with_ema: bool,
) -> TrainState:
    """The state before the first step. Jit it with `shardings` as out_shardings."""
    params = model.init(seed_keys(seed)[0])
    trained, _ = split(params, trainable)
    average = ema.init(params) if with_ema else None
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(trained), average)
