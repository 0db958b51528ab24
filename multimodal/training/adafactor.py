"""Adafactor in the form that big_vision trains with, layer by layer for stacked parameters."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

MIN_DIM_TO_FACTOR = 32
EPS = 1e-30
DECAY_EXPONENT = 0.8

Params = dict[str, jax.Array]


class AdafactorState(NamedTuple):
    """Second moments by parameter path (row and column means, or `full`), and the momentum.

    The means keep the axis that they run over with size 1, so that every array of the state has
    as many axes as its parameter and is sharded like it on the axes that remain.
    """

    count: jax.Array
    row: Params
    column: Params
    full: Params
    momentum: Params


def scale_by_adafactor(
    stacked: frozenset[str],
    beta1: float = 0.9,
    beta2_cap: float = 0.999,
    clip_update: float | None = None,
) -> optax.GradientTransformation:
    """Adafactor (Shazeer and Stern 2018) as changed by Zhai et al. 2022 and used in big_vision.

    With g the gradient and t = 1, 2, ...: b = min(beta2_cap, 1 - t^-0.8); the means R, C of
    g^2 + 1e-30 over one of the two largest axes each are averaged with b; u = g / sqrt(R C /
    mean(R)), or g / sqrt(V) if fewer than two axes reach 32. If `clip_update` is set, u is divided
    by max(1, rms(u) / clip_update). The result is the momentum m = beta1 m + (1 - beta1) u, kept
    in bfloat16 and not corrected for its zero start. Updates are not scaled by the size of the
    parameter, unlike in the original, whose clip at 1 is off here as in big_vision.

    The leading axis of the paths in `stacked` enumerates layers: each layer is factored and
    clipped as if it were a parameter of its own. Takes and returns flat dicts.
    """

    def init(params: Params) -> AdafactorState:
        state = AdafactorState(jnp.zeros([], jnp.int32), {}, {}, {}, {})
        for path, param in params.items():
            axes = factored_axes(param.shape, path in stacked)
            if axes is None:
                state.full[path] = jnp.zeros(param.shape, jnp.float32)
            else:
                state.row[path] = jnp.zeros(_with_one(param.shape, axes[1]), jnp.float32)
                state.column[path] = jnp.zeros(_with_one(param.shape, axes[0]), jnp.float32)
            if beta1:
                state.momentum[path] = jnp.zeros(param.shape, jnp.bfloat16)
        return state

    def update(grads: Params, state: AdafactorState, params: Params | None = None):
        count = optax.safe_increment(state.count)
        beta2 = jnp.minimum(beta2_cap, 1.0 - count.astype(jnp.float32) ** -DECAY_EXPONENT)
        updates, new = {}, AdafactorState(count, {}, {}, {}, {})
        for path, grad in grads.items():
            grad = grad.astype(jnp.float32)
            square = jnp.square(grad) + EPS
            axes = factored_axes(grad.shape, path in stacked)
            if axes is None:
                full = beta2 * state.full[path] + (1 - beta2) * square
                scaled = grad * jax.lax.rsqrt(full)
                new.full[path] = full
            else:
                down, along = axes
                mean = square.mean(along, keepdims=True)
                row = beta2 * state.row[path] + (1 - beta2) * mean
                mean = square.mean(down, keepdims=True)
                column = beta2 * state.column[path] + (1 - beta2) * mean
                # Two factors, because the product of two moments near 1e-30 would underflow.
                relative = row / row.mean(down, keepdims=True)
                scaled = grad * jax.lax.rsqrt(relative) * jax.lax.rsqrt(column)
                new.row[path], new.column[path] = row, column
            if clip_update:
                own = tuple(range(int(path in stacked), grad.ndim))
                rms = jnp.sqrt(jnp.square(scaled).mean(own, keepdims=True))
                scaled = scaled / jnp.maximum(1.0, rms / clip_update)
            if beta1:
                # In float32: a product in bfloat16 (optax.ema) would round 0.9 to 0.8984.
                momentum = state.momentum[path].astype(jnp.float32)
                scaled = beta1 * momentum + (1 - beta1) * scaled
                new.momentum[path] = scaled.astype(jnp.bfloat16)
            updates[path] = scaled
        return updates, new

    return optax.GradientTransformation(init, update)


def factored_axes(shape: tuple[int, ...], stacked: bool) -> tuple[int, int] | None:
    """The two largest axes, layers aside, if both reach 32; otherwise None."""
    axes = sorted(range(int(stacked), len(shape)), key=shape.__getitem__)[-2:]
    if len(axes) < 2 or shape[axes[0]] < MIN_DIM_TO_FACTOR:
        return None
    return axes[0], axes[1]


def _with_one(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return (*shape[:axis], 1, *shape[axis + 1 :])
