"""A block of two halves, as open_clip's captioning decoder has it."""

import dataclasses

import jax
from flax import nnx

from multimodal.config import Transformer
from multimodal.models.attention import Attention, Cache
from multimodal.models.block import Block, Mlp, residual
from multimodal.models.initializers import block_init
from multimodal.models.layers import LayerNorm, fold
from multimodal.models.rngs import Rngs


class InterleavedBlock(nnx.Module):
    """x + self-attention, x + MLP, x + attention to the normed context, x + MLP; pre-norm."""

    def __init__(self, settings: Transformer, *, rngs: Rngs):
        s, init = settings, block_init(settings)
        self.own = Block(dataclasses.replace(s, cross_attention=False), rngs=rngs)
        self.dropout, self.drop_paths = s.dropout, s.drop_path > 0
        self.cross_norm = LayerNorm(s.width, s.norm_eps, rngs=rngs)
        self.context_norm = LayerNorm(s.width, s.norm_eps, rngs=rngs)
        self.cross = Attention(
            s.width,
            s.heads,
            init,
            backend=s.attention,
            dropout_rate=s.attention_dropout,
            rngs=rngs,
        )
        self.mlp_norm = LayerNorm(s.width, s.norm_eps, rngs=rngs)
        self.mlp = Mlp(s.width, s.mlp, s.activation, init, rngs=rngs)

    def __call__(
        self,
        x: jax.Array,  # [batch, length, embed]
        *,
        mask: jax.Array | None = None,
        context: jax.Array,  # [batch, keys, embed]
        context_mask: jax.Array | None = None,
        cache: Cache | None = None,
        drop_path_rate: jax.Array | float = 0.0,
        key: jax.Array | None = None,
    ) -> tuple[jax.Array, dict]:
        """The next hidden state and {"attention", "cross_attention", "cache"}."""
        x, extras = self.own(
            x, mask=mask, cache=cache, drop_path_rate=drop_path_rate, key=fold(key, 0)
        )

        def cross_attention(y):
            y, extras["cross_attention"], _ = self.cross(
                y, self.context_norm(context), mask=context_mask, key=fold(key, 1)
            )
            return y

        def branch(x, f, norm, number):
            return residual(
                x,
                f,
                norm,
                pre=True,
                dropout_rate=self.dropout,
                drop_path_rate=drop_path_rate if self.drop_paths else None,
                keys=(fold(key, number), fold(key, number + 1)),
            )

        x = branch(x, cross_attention, self.cross_norm, 2)
        return branch(x, self.mlp, self.mlp_norm, 4), extras
