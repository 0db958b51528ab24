"""The one Transformer block: pre-norm or post-norm, with cross-attention where asked."""

from collections.abc import Callable

import jax
from flax import nnx

from multimodal.config import Transformer
from multimodal.models.attention import Attention, Cache
from multimodal.models.initializers import BlockInit, block_init
from multimodal.models.layers import ACTIVATIONS, LayerNorm, Linear, drop_path, dropout, fold
from multimodal.models.rngs import Rngs
from multimodal.parallel.rules import constrain


class Mlp(nnx.Module):
    """Linear, activation, Linear."""

    def __init__(self, width: int, hidden: int, activation: str, init: BlockInit, *, rngs):
        self.activation = activation
        up, down, axes = init.mlp_up, init.mlp_down, ("embed", "mlp")
        self.up = Linear(width, hidden, axes, up.kernel, rngs=rngs, bias_init=up.bias)
        self.down = Linear(hidden, width, axes[::-1], down.kernel, rngs=rngs, bias_init=down.bias)

    def __call__(self, x: jax.Array) -> jax.Array:
        hidden = ACTIVATIONS[self.activation](self.up(x))
        hidden = constrain(hidden, "batch", *(["length"] if x.ndim == 3 else []), "mlp")
        return self.down(hidden)


def residual(
    x: jax.Array,
    f: Callable[[jax.Array], jax.Array],
    norm: LayerNorm,
    *,
    pre: bool,
    dropout_rate: float,
    drop_path_rate: jax.Array | float | None,
    keys: tuple[jax.Array | None, jax.Array | None],
) -> jax.Array:
    """x + f(norm(x)), or norm(x + f(x)); the branch with dropout, and dropped as a whole."""
    y = f(norm(x)) if pre else f(x)
    y = dropout(y, dropout_rate, keys[0])
    if drop_path_rate is not None:
        y = drop_path(y, drop_path_rate, keys[1])
    y = x + y if pre else norm(x + y)
    return constrain(y, "batch", "length", None)


class Block(nnx.Module):
    """x + attention, then x + cross-attention (if any), then x + MLP, each with its norm."""

    def __init__(self, settings: Transformer, *, rngs: Rngs):
        s = settings
        init = block_init(s)
        self.pre, self.dropout = s.norm_position == "pre", s.dropout
        self.drop_paths = s.drop_path > 0
        options = {"rngs": rngs, "backend": s.attention, "dropout_rate": s.attention_dropout}
        self.attention_norm = LayerNorm(s.width, s.norm_eps, rngs=rngs)
        self.attention = Attention(s.width, s.heads, init, causal=s.causal, **options)
        cross = s.cross_attention
        self.cross_norm = LayerNorm(s.width, s.norm_eps, rngs=rngs) if cross else None
        self.cross = Attention(s.width, s.heads, init, **options) if cross else None
        self.mlp_norm = LayerNorm(s.width, s.norm_eps, rngs=rngs)
        self.mlp = Mlp(s.width, s.mlp, s.activation, init, rngs=rngs)

    def __call__(
        self,
        x: jax.Array,  # [batch, length, embed]
        *,
        mask: jax.Array | None = None,
        context: jax.Array | None = None,  # [batch, keys, embed]
        context_mask: jax.Array | None = None,
        cache: Cache | None = None,
        drop_path_rate: jax.Array | float = 0.0,
        key: jax.Array | None = None,
    ) -> tuple[jax.Array, dict]:
        """The next hidden state and {"attention", "cross_attention", "cache"}."""
        extras = {}

        def self_attention(y):
            y, weights, new_cache = self.attention(y, mask=mask, cache=cache, key=fold(key, 0))
            extras.update(attention=weights, cache=new_cache)
            return y

        def cross_attention(y):
            y, extras["cross_attention"], _ = self.cross(
                y, context, mask=context_mask, key=fold(key, 1)
            )
            return y

        def branch(x, f, norm, number):
            return residual(
                x,
                f,
                norm,
                pre=self.pre,
                dropout_rate=self.dropout,
                drop_path_rate=drop_path_rate if self.drop_paths else None,
                keys=(fold(key, 2 + 2 * number), fold(key, 3 + 2 * number)),
            )

        x = branch(x, self_attention, self.attention_norm, 0)
        if self.cross is not None:
            x = branch(x, cross_attention, self.cross_norm, 1)
        return branch(x, self.mlp, self.mlp_norm, 2), extras
