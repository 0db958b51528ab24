"""A decoder that reads captions off the tokens of a picture (LocCa, Wan et al. 2024; CapPa)."""

import jax
import jax.numpy as jnp
from flax import nnx

from multimodal.config import Transformer
from multimodal.models.embeddings import ClassToken, Positions, TokenEmbed
from multimodal.models.initializers import edge_init
from multimodal.models.layers import LayerNorm, Linear, dropout, fold, parameter
from multimodal.models.rngs import Rngs
from multimodal.models.stack import Stack


class Captioner(nnx.Module):
    """Causal Transformer over words that also attends to a picture of tokens `picture_width` wide.

    A caption stands behind a learnt start vector, so row i is to predict token i. Where an example
    is to be predicted in parallel, every row holds the same learnt vector instead of a word, and
    sees every other.
    """

    def __init__(
        self,
        settings: Transformer,
        vocab_size: int,
        length: int,
        picture_width: int,
        dtype: str,
        *,
        rngs: Rngs,
    ):
        s = settings
        self.dropout = s.dropout
        init = edge_init(s.init, s.width)
        self.tokens = TokenEmbed(vocab_size, s.width, init.token, dtype=dtype, rngs=rngs)
        self.start = ClassToken(s.width, init.token, rngs=rngs)
        self.blank = parameter(init.token, rngs, (s.width,), ("embed",))
        self.positions = Positions(length, s.width, init.text_position, rngs=rngs)
        axes = ("embed", None)
        self.context = (
            Linear(picture_width, s.width, axes, init.projection, rngs=rngs)
            if picture_width != s.width
            else None
        )
        self.stack = Stack(s, rngs=rngs)
        self.norm = LayerNorm(s.width, s.norm_eps, rngs=rngs)

    def __call__(
        self,
        ids: jax.Array,  # [batch, length]
        picture: jax.Array,  # [batch, patches, picture_width]
        *,
        parallel: jax.Array | None = None,  # [batch], True: predict all words at once
        picture_mask: jax.Array | None = None,  # [batch, patches], True at real patches
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Features [batch, length, width]; a product with `self.tokens.table` gives logits."""
        x = self.start(self.tokens(ids[:, :-1]))
        seen = jnp.tril(jnp.ones((1, ids.shape[1], ids.shape[1]), bool))
        if parallel is not None:
            parallel = parallel[:, None, None]
            x = jnp.where(parallel, self.blank[...].astype(x.dtype), x)
            seen = seen | parallel
        x = dropout(self.positions(x), self.dropout, fold(key, 0))
        context = picture if self.context is None else self.context(picture)
        real = None if picture_mask is None else picture_mask[:, None, None, :]
        x, _ = self.stack(
            x, mask=seen[:, None], context=context, context_mask=real, key=fold(key, 1)
        )
        return self.norm(x)
