"""The optimiser of a run: one chain over a flat dict of trainable parameters, and its sharding."""

import re
from collections.abc import Iterable, Mapping

import jax
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from multimodal.config import Optimizer, Rule
from multimodal.errors import UserError
from multimodal.training.adafactor import scale_by_adafactor
from multimodal.training.layers import last_layers, layer_factors, on_last_layers
from multimodal.training.schedule import make_schedule


def multipliers(
    settings: Optimizer, paths: Iterable[str], stacked: frozenset[str] = frozenset()
) -> dict[str, float | None]:
    """Learning-rate multiplier of every path; None: frozen.

    The first rule whose pattern matches the whole path decides; without one it is 1, as it is for
    those `stacked` that a rule freezes but for some `unlocked` layers (see `locked_layers`). Raises
    UserError for a pattern that is no regular expression, matches no path, or comes too late.
    """
    paths = sorted(paths)
    left = list(paths)
    for rule in settings.rules:
        matched = _matching((rule.pattern,), paths)
        if not matched:
            raise UserError(
                f"config.optimizer.rules: {rule.pattern!r} matches no parameter; a pattern matches "
                f"the whole path, and paths look like {', '.join(_sample(paths))}"
            )
        if matched.isdisjoint(left):
            raise UserError(
                f"config.optimizer.rules: {rule.pattern!r} decides nothing, because earlier rules "
                "match all its parameters; move it up or remove it"
            )
        if rule.unlocked and matched.isdisjoint(stacked):
            raise UserError(
                f"config.optimizer.rules: {rule.pattern!r} with unlocked={rule.unlocked} matches "
                f"no stack of layers; paths of such look like {', '.join(_sample(stacked))}"
            )
        left = [path for path in left if path not in matched]
    return {path: _multiplier(settings, path, path in stacked) for path in paths}


def trainable(
    settings: Optimizer, paths: Iterable[str], stacked: frozenset[str] = frozenset()
) -> frozenset[str]:
    """The paths that no rule freezes as a whole. Raises UserError as `multipliers`, or if none is
    left."""
    chosen = multipliers(settings, paths, stacked)
    kept = frozenset(path for path, multiplier in chosen.items() if multiplier is not None)
    if not kept:
        raise UserError("config.optimizer.rules freeze every parameter; leave some to train")
    return kept


def locked_layers(
    settings: Optimizer, shapes: Mapping[str, jax.ShapeDtypeStruct], stacked: frozenset[str]
) -> dict[str, int]:
    """How many layers, from the first on, stay as they are, of the paths that train in part.

    Raises UserError where more are unlocked than there are.
    """
    locked = {}
    for path in stacked & shapes.keys():
        rule = _rule(settings, path)
        if rule is None or not rule.unlocked:
            continue
        depth = shapes[path].shape[0]
        if rule.unlocked >= depth:
            raise UserError(
                f"config.optimizer.rules: {rule.pattern!r} with unlocked={rule.unlocked} freezes "
                f"nothing of {path}, which has {depth} layers"
            )
        locked[path] = depth - rule.unlocked
    return locked


def make_optimizer(
    settings: Optimizer,
    steps: int,
    params: Mapping[str, jax.Array | jax.ShapeDtypeStruct],
    stacked: frozenset[str] = frozenset(),
) -> optax.GradientTransformation:
    """Gradients to updates for `params`, the trainable parameters only, as flat dicts.

    In this order: clip of the global norm; AdamW (Loshchilov and Hutter 2019), Lion (Chen et al.
    2023) or Adafactor; decoupled weight decay; learning rate; multiplier of the path and, with
    `layer_decay`, of the layer. So a step is
        p <- p - multiplier * rate(step) * (direction + weight_decay * p)
    and decay shrinks with the learning rate, as in PyTorch and optax. (big_vision's `wd` is
    multiplied by the schedule's shape but not by its peak: its value is ours times that peak.)

    Decay leaves out the paths that a pattern in `settings.no_decay` matches as a whole: names, not
    ranks, because the bias of a stacked layer has rank 2. `stacked`: paths with a leading axis of
    layers; nothing is computed and no state kept for those that are locked. Only the paths of
    `params` are read. Raises UserError for bad settings.
    """
    chain = []
    if settings.clip_norm:
        chain.append(optax.clip_by_global_norm(settings.clip_norm))
    chain.append(_direction(settings, stacked))
    if settings.weight_decay:
        skipped = _matching(settings.no_decay, params)
        decayed = {path: path not in skipped for path in params}
        chain.append(optax.add_decayed_weights(settings.weight_decay, mask=decayed))
    chain.append(optax.scale_by_learning_rate(make_schedule(settings, steps)))
    chosen = {path: _multiplier(settings, path, path in stacked) for path in params}
    if frozen := _sample(path for path in chosen if chosen[path] is None):
        raise ValueError(f"frozen parameters do not go into the optimiser: {', '.join(frozen)}")
    locked = locked_layers(settings, params, stacked)
    if settings.layer_decay is not None:
        decay = last_layers(layer_factors(settings.layer_decay, params, stacked), locked)
        chosen = {path: factor * decay[path] for path, factor in chosen.items()}
    if any(np.any(factor != 1) for factor in chosen.values()):
        chain.append(
            optax.stateless(lambda updates, _: {p: u * chosen[p] for p, u in updates.items()})
        )
    return on_last_layers(optax.chain(*chain), locked)


def state_shardings(
    optimizer: optax.GradientTransformation,
    params: Mapping[str, jax.Array | jax.ShapeDtypeStruct],
    param_shardings: Mapping[str, NamedSharding],
    mesh: Mesh,
    memory_kind: str | None = None,
) -> optax.OptState:
    """Shardings for `optimizer.init(params)`, in the structure of its result.

    An array kept for a parameter is sharded like it, except on axes that it has reduced to size 1
    (Adafactor's factors), and lies in the devices' memory of `memory_kind` ("pinned_host": their
    host's); everything else, such as step counts, is replicated, on the devices.
    """
    state = jax.eval_shape(optimizer.init, dict(params))

    def sharding(keys: tuple, leaf: jax.ShapeDtypeStruct) -> NamedSharding:
        path = getattr(keys[-1], "key", None)
        if path not in params:
            return NamedSharding(mesh, PartitionSpec())
        shape, spec = params[path].shape, param_shardings[path].spec
        kept = (axes if leaf.shape[i] == shape[i] else None for i, axes in enumerate(spec))
        return NamedSharding(mesh, PartitionSpec(*kept), memory_kind=memory_kind)

    return jax.tree.map_with_path(sharding, state)


def _direction(settings: Optimizer, stacked: frozenset[str]) -> optax.GradientTransformation:
    if settings.name == "adamw":
        return optax.scale_by_adam(settings.beta1, settings.beta2, settings.eps)
    if settings.name == "lion":
        return optax.scale_by_lion(settings.beta1, settings.beta2)
    return scale_by_adafactor(stacked, settings.beta1, settings.beta2, settings.clip_update)


def _multiplier(settings: Optimizer, path: str, stacked: bool) -> float | None:
    rule = _rule(settings, path)
    return 1.0 if rule is None or (stacked and rule.unlocked) else rule.multiplier


def _rule(settings: Optimizer, path: str) -> Rule | None:
    return next((rule for rule in settings.rules if re.fullmatch(rule.pattern, path)), None)


def _matching(patterns: Iterable[str], paths: Iterable[str]) -> set[str]:
    matched = set()
    for pattern in patterns:
        try:
            compiled = re.compile(pattern)
        except re.error as error:
            raise UserError(
                f"config.optimizer: {pattern!r} is no regular expression: {error}"
            ) from None
        matched |= {path for path in paths if compiled.fullmatch(path)}
    return matched


def _sample(paths: Iterable[str], count: int = 4) -> list[str]:
    """A few paths, spread evenly so that they show every part of a model."""
    paths = sorted(paths)
    return paths[:: max(1, -(-len(paths) // count))]
