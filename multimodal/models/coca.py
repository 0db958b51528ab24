"""CoCa: contrastive and captioning signals from one forward pass (Yu et al. 2022)."""

import jax
import jax.numpy as jnp
from flax import nnx

from multimodal import config
from multimodal.models.block import Block
from multimodal.models.dual_encoder import Temperature, normalise
from multimodal.models.embeddings import ClassToken, Positions, TokenEmbed
from multimodal.models.initializers import block_init, edge_init
from multimodal.models.interleaved import InterleavedBlock
from multimodal.models.layers import LayerNorm, Linear, fold
from multimodal.models.poolers import AttentionPooler
from multimodal.models.rngs import Rngs
from multimodal.models.stack import Stack
from multimodal.models.towers import VisionTower
from multimodal.parallel.rules import constrain
from multimodal.preprocessing import Preprocessing


class TwoPoolers(nnx.Module):
    """One query for contrast, many for the captioner, over the same picture tokens."""

    def __init__(self, settings: config.CoCa, *, rngs: Rngs):
        s, v, d = settings, settings.image.transformer, settings.decoder

        def pooler(queries: int) -> AttentionPooler:
            blocks = block_init(v)
            return AttentionPooler(v.width, s.pooler_heads, queries, v.norm_eps, blocks, rngs=rngs)

        self.contrast, self.caption = pooler(1), pooler(s.queries)
        projection = edge_init(d.init, d.width).projection
        self.context = Linear(v.width, d.width, ("embed", None), projection, rngs=rngs, bias=False)

    def __call__(self, picture: jax.Array) -> tuple[jax.Array, jax.Array]:
        """For contrast [batch, image width], for captions [batch, queries, decoder width]."""
        return self.contrast(picture)[:, 0], self.context(self.caption(picture))


class OnePooler(nnx.Module):
    """open_clip's: the first query is for contrast, the others for the captioner."""

    def __init__(self, settings: config.CoCa, *, rngs: Rngs):
        s, v, width = settings, settings.image.transformer, settings.decoder.width
        self.pooler = AttentionPooler(
            width,
            s.pooler_heads,
            s.queries,
            v.norm_eps,
            block_init(v),
            context_width=v.width,
            rngs=rngs,
        )
        self.norm = LayerNorm(width, v.norm_eps, rngs=rngs)

    def __call__(self, picture: jax.Array) -> tuple[jax.Array, jax.Array]:
        """For contrast [batch, decoder width], for captions [batch, queries - 1, decoder width]."""
        pooled = self.norm(self.pooler(picture))
        return pooled[:, 0], pooled[:, 1:]


class CoCa(nnx.Module):
    """Picture tokens are pooled for contrast and for the captioner. The text runs through unimodal
    causal layers with a class token behind it, then, without that token, through layers that also
    attend to the picture.

    Inputs `image` and `text`; outputs unit vectors `image` and `text`, `temperature`, and
    `caption_logits` [batch, length, vocab], whose row i predicts token i + 1.
    """

    def __init__(
        self,
        settings: config.CoCa,
        preprocessing: Preprocessing,
        dtype: str,
        *,
        rngs: Rngs,
    ):
        s, t, d = settings, settings.text.transformer, settings.decoder
        self.open_clip, self.pad_id = s.form == "open_clip", s.text.pad_id
        self.image = VisionTower(s.image, preprocessing, s.embed, dtype, rngs=rngs)
        self.pool = (OnePooler if self.open_clip else TwoPoolers)(s, rngs=rngs)
        init = edge_init(t.init, t.width)
        self.tokens = TokenEmbed(s.text.vocab_size, t.width, init.token, dtype=dtype, rngs=rngs)
        length = s.text.length + self.open_clip
        self.positions = Positions(length, t.width, init.text_position, rngs=rngs)
        self.class_token = ClassToken(t.width, init.token, rngs=rngs)
        self.unimodal = Stack(t, rngs=rngs)
        self.text_norm = LayerNorm(t.width, t.norm_eps, rngs=rngs)

        def projection(width: int) -> Linear:
            return Linear(width, s.embed, ("embed", None), init.projection, rngs=rngs, bias=False)

        self.image_projection = projection(d.width if self.open_clip else s.image.transformer.width)
        self.text_projection = projection(t.width)
        self.multimodal = Stack(d, rngs=rngs, block=InterleavedBlock if self.open_clip else Block)
        self.norm = LayerNorm(d.width, d.norm_eps, rngs=rngs)
        self.head = Linear(
            d.width, s.text.vocab_size, ("embed", "vocab"), init.projection, rngs=rngs, bias=False
        )
        self.temperature = Temperature(s.logit_scale_init, s.logit_scale_max, None, rngs=rngs)

    def __call__(self, batch: dict, key: jax.Array | None = None) -> dict:
        image, context = self._picture(batch["image"], fold(key, 0))
        text, words = self._text(batch["text"], fold(key, 1))
        y, _ = self.multimodal(words, context=context, key=fold(key, 2))
        logits = constrain(self.head(self.norm(y)), "batch", "length", "vocab")
        return {
            "image": image,
            "text": text,
            "temperature": {"image-text": self.temperature()},
            "caption_logits": logits,
        }

    def encode(self, name: str, inputs: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Unit vectors [batch, embed] of `image` or `text`."""
        if name == "image":
            return self._picture(inputs, key)[0]
        return self._text(inputs, key)[0]

    def _picture(self, images: jax.Array, key: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        """The embedding [batch, embed], and what the decoder attends to."""
        contrast, context = self.pool(self.image(images, key=key)["tokens"])
        return constrain(normalise(self.image_projection(contrast)), "batch", None), context

    def _text(self, ids: jax.Array, key: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        """The embedding [batch, embed], and the words [batch, length, width]."""
        x = self.tokens(ids)
        if self.open_clip:
            x = self.positions(self.class_token(x, last=True))
        else:
            x = self.class_token(self.positions(x), last=True)
        x, _ = self.unimodal(x, mask=self._seen(ids), key=key)
        text = normalise(self.text_projection(self.text_norm(x[:, -1])))
        return constrain(text, "batch", None), x[:, :-1]

    def _seen(self, ids: jax.Array) -> jax.Array:
        """The keys that are no padding, [batch, 1, 1, length + 1]. open_clip's released weights are
        used to a mask one place off: the class token sees the first padding token too, and itself
        only behind a text without padding."""
        sides = (1, 0) if self.open_clip else (0, 1)
        real = jnp.pad(ids != self.pad_id, ((0, 0), sides), constant_values=True)
        return real[:, None, None, :]
