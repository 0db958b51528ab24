"""Layers of a stack that are trained differently: some not at all, the deeper ones more slowly."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax

from multimodal.errors import UserError

# What a model computes before its stack, by the names that the parts have beside it.
_BEFORE = {
    *("patches", "class_token", "positions", "pre_norm", "tokens", "types", "embedding_norm"),
    *("words", "word_norm", "regions", "region_norm", "image_norm", "boxes", "box_norm"),
    *("start", "blank"),
}


def layer_factors(
    decay: float, shapes: Mapping[str, jax.ShapeDtypeStruct], stacked: frozenset[str]
) -> dict[str, np.ndarray]:
    """What the learning rate of every path is multiplied by, float32, for the layers of those
    `stacked` [layers, 1, ...]: decay^(n - i) for layer i of n, decay^(n + 1) for what comes before
    a stack, 1 for what follows it (Bao et al. 2022). Each stack counts its own layers.

    Raises UserError where no stack is trained.
    """
    depths: dict[str, int] = {}
    for path in stacked & shapes.keys():
        owner = _owner(path)
        depths[owner] = max(depths.get(owner, 0), shapes[path].shape[0])
    if not depths:
        raise UserError("config.optimizer.layer_decay: no stack of layers is trained; leave it out")
    factors = {}
    for path, leaf in shapes.items():
        power = np.zeros((1,) * len(leaf.shape))
        if path in stacked:
            power = np.arange(leaf.shape[0], 0, -1).reshape(-1, *power.shape[1:])
        else:
            owners = [o for o in depths if _name_after(o, path) in _BEFORE]
            if owners:
                power = power + depths[max(owners, key=len)] + 1
        factors[path] = np.float32(decay**power)
    return factors


def on_last_layers(
    inner: optax.GradientTransformation, locked: Mapping[str, int]
) -> optax.GradientTransformation:
    """`inner` without the first `locked` layers of some paths: it neither sees them nor keeps any
    state for them, and they are not updated."""
    if not locked:
        return inner

    def init(params: dict[str, jax.Array]) -> optax.OptState:
        return inner.init(last_layers(params, locked))

    def update(gradient: dict, state: optax.OptState, params: dict | None = None):
        params = None if params is None else last_layers(params, locked)
        updates, state = inner.update(last_layers(gradient, locked), state, params)
        none = {path: (n, *[0] * (updates[path].ndim - 1)) for path, n in locked.items()}
        padded = {p: jnp.pad(updates[p], [(n, 0) for n in front]) for p, front in none.items()}
        return updates | padded, state

    return optax.GradientTransformation(init, update)


def last_layers(tree: Mapping[str, jax.Array], locked: Mapping[str, int]) -> dict[str, jax.Array]:
    """The tree without the first `locked` layers of some of its paths."""
    return {path: x[locked[path] :] if path in locked else x for path, x in tree.items()}


def _owner(path: str) -> str:
    """The part of a model that a stack belongs to, "" for the model itself."""
    before = path.removeprefix("lora/").partition("blocks/")[0].rstrip("/")
    return before.rpartition("/")[0]


def _name_after(owner: str, path: str) -> str:
    """The name that follows `owner` in a path, "" where it is not below it."""
    path, prefix = path.removeprefix("lora/"), f"{owner}/" if owner else ""
    return path.removeprefix(prefix).partition("/")[0] if path.startswith(prefix) else ""
