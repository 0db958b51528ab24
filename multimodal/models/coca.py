"""CoCa: contrastive and captioning signals from one forward pass (Yu et al. 2022)."""

import jax
from flax import nnx

from multimodal import config
from multimodal.models.dual_encoder import Temperature, normalise
from multimodal.models.embeddings import ClassToken, Positions, TokenEmbed
from multimodal.models.initializers import block_init, edge_init
from multimodal.models.layers import LayerNorm, Linear, fold
from multimodal.models.poolers import AttentionPooler
from multimodal.models.stack import Stack
from multimodal.models.towers import VisionTower
from multimodal.parallel.rules import constrain
from multimodal.preprocessing import Preprocessing


class CoCa(nnx.Module):
    """Picture tokens are pooled twice: one query for contrast, many for the captioner. The text
    runs through unimodal causal layers with a class token behind it, then, without that token,
    through layers that also attend to the picture.

    Inputs `image` and `text`; outputs unit vectors `image` and `text`, `temperature`, and
    `caption_logits` [batch, length, vocab], whose row i predicts token i + 1.
    """

    def __init__(
        self,
        settings: config.CoCa,
        preprocessing: Preprocessing,
        dtype: str,
        *,
        rngs: nnx.Rngs,
    ):
        s, t, d = settings, settings.text.transformer, settings.decoder
        self.pad_id = s.text.pad_id
        self.image = VisionTower(s.image, preprocessing, s.embed, dtype, rngs=rngs)
        v = s.image.transformer
        blocks = block_init(v)

        def pooler(queries: int) -> AttentionPooler:
            return AttentionPooler(v.width, s.pooler_heads, queries, v.norm_eps, blocks, rngs=rngs)

        self.contrast_pooler, self.caption_pooler = pooler(1), pooler(s.queries)
        init = edge_init(t.init, t.width)
        self.tokens = TokenEmbed(s.text.vocab_size, t.width, init.token, dtype=dtype, rngs=rngs)
        self.positions = Positions(s.text.length, t.width, init.text_position, rngs=rngs)
        self.class_token = ClassToken(t.width, init.token, rngs=rngs)
        self.unimodal = Stack(t, rngs=rngs)
        self.text_norm = LayerNorm(t.width, t.norm_eps, rngs=rngs)
        axes = ("embed", None)
        self.image_projection = Linear(
            v.width, s.embed, axes, init.projection, rngs=rngs, bias=False
        )
        self.text_projection = Linear(
            t.width, s.embed, axes, init.projection, rngs=rngs, bias=False
        )
        self.context = Linear(v.width, d.width, axes, init.projection, rngs=rngs, bias=False)
        self.multimodal = Stack(d, rngs=rngs)
        self.norm = LayerNorm(d.width, d.norm_eps, rngs=rngs)
        self.head = Linear(
            d.width, s.text.vocab_size, ("embed", "vocab"), init.projection, rngs=rngs, bias=False
        )
        self.temperature = Temperature(s.logit_scale_init, s.logit_scale_max, None, rngs=rngs)

    def __call__(self, batch: dict, key: jax.Array | None = None) -> dict:
        picture = self._picture(batch["image"], fold(key, 0))
        text, words = self._text(batch["text"], fold(key, 1))
        context = self.context(self.caption_pooler(picture))
        y, _ = self.multimodal(words, context=context, key=fold(key, 2))
        logits = constrain(self.head(self.norm(y)), "batch", "length", "vocab")
        return {
            "image": self._image_embedding(picture),
            "text": text,
            "temperature": {"image-text": self.temperature()},
            "caption_logits": logits,
        }

    def encode(self, name: str, inputs: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Unit vectors [batch, embed] of `image` or `text`."""
        if name == "image":
            return self._image_embedding(self._picture(inputs, key))
        return self._text(inputs, key)[0]

    def _picture(self, images: jax.Array, key: jax.Array | None) -> jax.Array:
        return self.image(images, key=key)["tokens"]

    def _image_embedding(self, picture: jax.Array) -> jax.Array:
        pooled = self.contrast_pooler(picture)[:, 0]
        return constrain(normalise(self.image_projection(pooled)), "batch", None)

    def _text(self, ids: jax.Array, key: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        x = self.class_token(self.positions(self.tokens(ids)), last=True)
        real = jax.numpy.pad(ids != self.pad_id, ((0, 0), (0, 1)), constant_values=True)
        x, _ = self.unimodal(x, mask=real[:, None, None, :], key=key)
        text = normalise(self.text_projection(self.text_norm(x[:, -1])))
        return constrain(text, "batch", None), x[:, :-1]
