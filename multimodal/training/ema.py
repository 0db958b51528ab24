"""An exponential moving average of the parameters, for evaluation and for teachers."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp


def init(params: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """The average before any step: a float32 copy, so that donating `params` leaves it whole."""
    return {path: jnp.array(param, jnp.float32, copy=True) for path, param in params.items()}


def update(
    ema: Mapping[str, jax.Array],
    params: Mapping[str, jax.Array],
    decay: float,
    step: jax.typing.ArrayLike,
) -> dict[str, jax.Array]:
    """The average after `params` of step `step` (from 0): ema <- d * ema + (1 - d) * params.

    d = min(decay, (1 + step) / (10 + step)), the warm-up of TensorFlow's
    ExponentialMovingAverage: the weight of the random start is gone after a few steps. float32.
    """
    step = jnp.asarray(step, jnp.float32)
    keep = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return {
        path: average + (1.0 - keep) * (params[path].astype(jnp.float32) - average)
        for path, average in ema.items()
    }
