"""From a sequence of vectors to one vector, or to a fixed number of them."""

import jax
import jax.numpy as jnp
from flax import nnx

from multimodal.models.attention import Attention
from multimodal.models.block import Mlp
from multimodal.models.initializers import BlockInit
from multimodal.models.layers import LayerNorm, parameter
from multimodal.models.rngs import Rngs
from multimodal.parallel.rules import constrain


class MapPooler(nnx.Module):
    """Multi-head attention pooling (Zhai et al. 2022): a learnt probe attends to the sequence, then
    x + MLP(norm(x))."""

    def __init__(
        self,
        width: int,
        heads: int,
        mlp: int,
        activation: str,
        eps: float,
        init: BlockInit,
        *,
        rngs: Rngs,
    ):
        self.probe = parameter(
            jax.nn.initializers.xavier_uniform(), rngs, (1, width), (None, "embed")
        )
        self.attention = Attention(width, heads, init, rngs=rngs)
        self.norm = LayerNorm(width, eps, rngs=rngs)
        self.mlp = Mlp(width, mlp, activation, init, rngs=rngs)

    def __call__(self, x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        # [batch, length, embed], mask [batch, length] -> [batch, embed]
        probe = jnp.broadcast_to(self.probe[...].astype(x.dtype), (x.shape[0], 1, x.shape[-1]))
        mask = None if mask is None else mask[:, None, None, :]
        y, _, _ = self.attention(probe, x, mask=mask)
        y = constrain(y, "batch", None, None)
        return constrain(y + self.mlp(self.norm(y)), "batch", None, None)[:, 0]


class AttentionPooler(nnx.Module):
    """Learnt queries of `width` attend to the normed sequence, which may be of another width (CoCa,
    Yu et al. 2022, section 3.2)."""

    def __init__(
        self,
        width: int,
        heads: int,
        queries: int,
        eps: float,
        init: BlockInit,
        *,
        context_width: int | None = None,
        rngs: Rngs,
    ):
        normal = jax.nn.initializers.normal(width**-0.5)
        self.queries = parameter(normal, rngs, (queries, width), (None, "embed"))
        self.norm = LayerNorm(context_width or width, eps, rngs=rngs)
        self.query_norm = LayerNorm(width, eps, rngs=rngs)
        self.attention = Attention(width, heads, init, context_width=context_width, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        # [batch, length, embed] -> [batch, queries, embed]
        queries = self.query_norm(self.queries[...].astype(x.dtype))
        queries = jnp.broadcast_to(queries, (x.shape[0], *queries.shape))
        return constrain(self.attention(queries, self.norm(x))[0], "batch", "length", None)


def mean_pool(x: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Mean over the positions where `mask` [batch, length] is True; over all without a mask."""
    if mask is None:
        return x.mean(axis=1)
    weights = mask[..., None].astype(x.dtype)
    return (x * weights).sum(1) / jnp.maximum(weights.sum(1), 1)


def pool_at(x: jax.Array, position: jax.Array) -> jax.Array:
    """The vector at `position` [batch] of each sequence."""
    return jnp.take_along_axis(x, position[:, None, None], axis=1)[:, 0]
