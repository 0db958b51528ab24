"""The plain parameters that those of a run with low-rank updates (`config.Lora`) stand for."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from multimodal.config import Lora

PREFIX = "lora/"


def merge(params: Mapping[str, jax.Array], settings: Lora) -> dict[str, jax.Array]:
    """Every kernel with its update; nothing else is left of these."""
    plain = {path: x for path, x in params.items() if not path.startswith(PREFIX)}
    for path in plain:
        if (name := f"{PREFIX}{path}/a") in params:
            plain[path] = added(plain[path], params[name], params[f"{PREFIX}{path}/b"], settings)
    return plain


def added(kernel: jax.Array, a: jax.Array, b: jax.Array, settings: Lora) -> jax.Array:
    """W + alpha / rank * A B, of one matrix or of a stack of them, in float32."""
    product = jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
    return kernel + (settings.alpha / settings.rank) * product
