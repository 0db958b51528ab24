"""A decoder over picture tokens, then text; full attention in the prefix (as PaliGemma)."""

import jax
import jax.numpy as jnp
from flax import nnx

from multimodal import config
from multimodal.models.attention import Cache
from multimodal.models.embeddings import Positions, TokenEmbed
from multimodal.models.initializers import edge_init
from multimodal.models.layers import LayerNorm, Linear, dropout, fold
from multimodal.models.rngs import Rngs
from multimodal.models.stack import Stack
from multimodal.models.towers import VisionTower
from multimodal.preprocessing import Preprocessing


def prefix_mask(length: int, prefix: jax.Array) -> jax.Array:
    """Who sees whom, [batch, 1, length, length]: everyone the first `prefix` [batch] positions, and
    all before oneself."""
    position = jnp.arange(length)
    causal = position[:, None] >= position[None, :]
    return (causal[None] | (position[None, None, :] < prefix[:, None, None]))[:, None]


class PrefixLM(nnx.Module):
    """Picture tokens, projected, stand before the text; `prefix_length` [batch] of the batch counts
    the text tokens that belong to the prefix (default: the start token).

    Inputs `image` and `text`; output `caption_logits` [batch, length, vocab], whose row i predicts
    token i + 1.
    """

    def __init__(
        self,
        settings: config.PrefixLM,
        preprocessing: Preprocessing,
        dtype: str,
        *,
        rngs: Rngs,
    ):
        s, d = settings, settings.decoder
        self.settings, self.dtype = s, dtype
        init = edge_init(d.init, d.width)
        self.image = VisionTower(s.image, preprocessing, d.width, dtype, rngs=rngs)
        width = s.image.transformer.width
        self.connector = Linear(width, d.width, ("embed", None), init.projection, rngs=rngs)
        self.tokens = TokenEmbed(s.vocab_size, d.width, init.token, dtype=dtype, rngs=rngs)
        self.patches = (s.image.image_size // s.image.patch_size) ** 2 + s.image.class_token
        length = self.patches + s.length
        self.positions = Positions(length, d.width, init.text_position, rngs=rngs)
        self.stack = Stack(d, rngs=rngs)
        self.norm = LayerNorm(d.width, d.norm_eps, rngs=rngs)

    def __call__(self, batch: dict, key: jax.Array | None = None) -> dict:
        ids = batch["text"]
        x = self._sequence(batch["image"], ids, key)
        prefix = batch.get("prefix_length", jnp.ones(ids.shape[:1], jnp.int32))
        mask = prefix_mask(x.shape[1], self.patches + prefix)
        x, _ = self.stack(x, mask=mask, key=fold(key, 1))
        return {"caption_logits": self.tokens.logits(self.norm(x[:, self.patches :]))}

    def start(self, images: jax.Array, ids: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        """Reads the picture and the prompt `ids` [batch, length] into an empty cache.

        Returns the logits of the next token [batch, vocab] and the cache.
        """
        x = self._sequence(images, ids, None)
        seen = jnp.arange(cache.key.shape[2]) < x.shape[1]
        x, extras = self.stack(x, mask=seen[None, None, None], cache=cache)
        return self.tokens.logits(self.norm(x[:, -1:]))[:, 0], extras["cache"]

    def step(self, ids: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        """One more token `ids` [batch] each; returns the logits of the next and the cache."""
        x = self.positions(self.tokens(ids[:, None]), start=cache.used[0])
        x, extras = self.stack(x, cache=cache)
        return self.tokens.logits(self.norm(x))[:, 0], extras["cache"]

    def _sequence(self, images: jax.Array, ids: jax.Array, key: jax.Array | None) -> jax.Array:
        picture = self.connector(self.image(images, key=fold(key, 0))["tokens"])
        x = self.positions(jnp.concatenate([picture, self.tokens(ids)], axis=1))
        return dropout(x, self.settings.decoder.dropout, fold(key, 2))
