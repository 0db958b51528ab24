"""The smallest pieces: parameters with logical axes, linear maps, norms, dropout."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax.nn.initializers import Initializer, zeros

from multimodal.models.rngs import Rngs

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
}


def parameter(
    init: Initializer,
    rngs: Rngs,
    shape: tuple[int, ...],
    axes: tuple[str | None, ...],
    largest: float | None = None,
) -> nnx.Param:
    """A float32 parameter that knows the logical name of each of its dimensions, and above which
    value a step may not leave it."""
    return nnx.Param(init(rngs.params(), shape, jnp.float32), axes=axes, largest=largest)


class Linear(nnx.Module):
    """x W + b over the last dimension, in the input's dtype."""

    def __init__(
        self,
        size_in: int,
        size_out: int,
        axes: tuple[str | None, str | None],
        init: Initializer,
        *,
        rngs: Rngs,
        bias: bool = True,
        bias_init: Initializer = zeros,
    ):
        self.kernel = parameter(init, rngs, (size_in, size_out), axes)
        self.bias = parameter(bias_init, rngs, (size_out,), axes[1:]) if bias else None

    def __call__(self, x: jax.Array) -> jax.Array:
        y = x @ self.kernel[...].astype(x.dtype)
        return y if self.bias is None else y + self.bias[...].astype(x.dtype)


class LayerNorm(nnx.Module):
    """Layer normalisation over the last dimension (Ba et al. 2016), computed in float32."""

    def __init__(self, width: int, eps: float, *, rngs: Rngs):
        self.eps = eps
        self.scale = parameter(jax.nn.initializers.ones, rngs, (width,), ("embed",))
        self.bias = parameter(zeros, rngs, (width,), ("embed",))

    def __call__(self, x: jax.Array) -> jax.Array:
        y = x.astype(jnp.float32)
        mean = y.mean(-1, keepdims=True)
        variance = jnp.square(y - mean).mean(-1, keepdims=True)
        y = (y - mean) * jax.lax.rsqrt(variance + self.eps)
        return (y * self.scale[...] + self.bias[...]).astype(x.dtype)


def fold(key: jax.Array | None, index: int) -> jax.Array | None:
    """The `index`-th key under `key`; no key (evaluation) stays no key."""
    return None if key is None else jax.random.fold_in(key, index)


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Zeroes a share `rate` of the entries and rescales the rest; without a key, the identity."""
    if key is None or rate == 0.0:
        return x
    keep = jax.random.bernoulli(key, 1 - rate, x.shape)
    return jnp.where(keep, x / (1 - rate), 0).astype(x.dtype)


def drop_path(x: jax.Array, rate: jax.Array, key: jax.Array | None) -> jax.Array:
    """Stochastic depth (Huang et al. 2016): drops a whole branch for a share of the examples."""
    if key is None:
        return x
    keep = jax.random.bernoulli(key, 1 - rate, (x.shape[0],) + (1,) * (x.ndim - 1))
    return jnp.where(keep, x / (1 - rate).astype(x.dtype), 0)
