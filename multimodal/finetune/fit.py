"""Parameters that are stored for pictures of another size, texts of another length or another
vocabulary, made to fit the new run."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from multimodal.config import CoCa, ImageTower, Model, TextTower
from multimodal.data.tokenizers import Tokenizer

_TABLES = re.compile(r"(.*/)?(tokens|words)/table|word_head/bias")
_ROLES = ("pad_id", "mask_id", "start_id", "end_id")


@dataclass(frozen=True)
class Fit:
    """`change(stored, as it begins)` is what a run begins with; `told` says so to people."""

    change: Callable[[jax.Array, jax.Array], jax.Array]
    told: str


def positions(path: str, now: Any, then: Any, shape: tuple, there: tuple) -> Fit | None:
    """Positions of a tower, `now` and `then`, resampled linearly, antialiased: those of pictures
    over their grid with the class token's as it is, those of texts over their length. None for
    parameters that this is not for."""
    towers = (now, then)
    if not path.endswith("/positions/position") or shape[1:] != there[1:]:
        return None
    if all(isinstance(tower, TextTower) for tower in towers):
        return Fit(
            lambda stored, _: jax.image.resize(stored, shape, "linear"),
            f"resampled from {there[0]} to {shape[0]} tokens",
        )
    if not all(isinstance(tower, ImageTower) for tower in towers):
        return None
    first = int(now.class_token)
    old, new = math.isqrt(there[0] - first), math.isqrt(shape[0] - first)
    if then.class_token != now.class_token or old * old + first != there[0]:
        return None

    def change(stored: jax.Array, _: jax.Array) -> jax.Array:
        grid = stored[first:].reshape(old, old, -1)
        grid = jax.image.resize(grid, (new, new, grid.shape[-1]), "linear")
        return jnp.concatenate([stored[:first], grid.reshape(new * new, -1)])

    return Fit(change, f"resampled from {old} x {old} to {new} x {new} patches")


def vocabulary(
    path: str, model: Model, now: Tokenizer, then: Tokenizer, shape: tuple, there: tuple
) -> Fit | None:
    """Rows of a table of tokens, and what else has one entry a token, by where the token was; those
    of new tokens stay as they begin. None for parameters that this is not for, and where nothing
    moves."""
    axis = per_token(path, model)
    if axis is None or shape[:axis] + shape[axis + 1 :] != there[:axis] + there[axis + 1 :]:
        return None
    if now.fingerprint == then.fingerprint:
        rows = np.arange(shape[axis])
        rows[there[axis] :] = -1
    else:
        rows = np.full(shape[axis], -1)
        known = token_rows(now, then)[: shape[axis]]
        rows[: len(known)] = np.where(known < there[axis], known, -1)
    if shape == there and (rows == np.arange(shape[axis])).all():
        return None
    kept = np.expand_dims(rows >= 0, [i for i in range(len(shape)) if i != axis])

    def change(stored: jax.Array, begins: jax.Array) -> jax.Array:
        return jnp.where(kept, jnp.take(stored, np.maximum(rows, 0), axis), begins)

    return Fit(change, f"{kept.sum():,} of {kept.size:,} tokens kept, {(~kept).sum():,} new")


def per_token(path: str, model: Model) -> int | None:
    """The dimension of a parameter that has an entry for each token, None without one."""
    if path == "head/kernel" and isinstance(model, CoCa):
        return 1
    return 0 if _TABLES.fullmatch(path) else None


def token_rows(now: Tokenizer, then: Tokenizer) -> np.ndarray:
    """For each token of a vocabulary its id in another, -1 where it has none: int [tokens]. Special
    tokens are matched by what they are for, all others as they are spelt."""
    ids = {token: i for i, token in enumerate(then.tokens()) if token is not None}
    rows = np.array([ids.get(token, -1) for token in now.tokens()])
    for role in _ROLES:
        here, there = getattr(now, role), getattr(then, role)
        if here >= 0 and there >= 0:
            rows[here] = there
    return rows
