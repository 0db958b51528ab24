"""SigLIP 2: a dual encoder trained on captions and views of its picture (Tschannen et al. 2025)."""

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jax.nn.initializers import zeros

from multimodal import config
from multimodal.models.captioner import Captioner
from multimodal.models.dual_encoder import DualEncoder, normalise
from multimodal.models.layers import fold, parameter
from multimodal.models.prototypes import PrototypeHead
from multimodal.models.rngs import Rngs
from multimodal.parallel.rules import constrain
from multimodal.preprocessing import Preprocessing


class Siglip2(DualEncoder):
    """`config.Siglip2`: every part that the batch has an entry for is run; encoding is the dual
    encoder's, the rest is for training alone.

    `image` and `text`, with `parallel` [batch] where captions are predicted in parallel: the dual
    encoder's outputs and `caption_features` [batch, length, width], whose row i is to predict
    token i.
    `view` [batch, size, size, 3]: `view_features` [batch, bottleneck] and `patch_features` [batch,
    patches, bottleneck]; with `masked_patches` [batch, masked], whose embeddings a learnt vector
    replaces, `masked_features` [batch, masked, bottleneck] of those patches instead.
    `local_views` [batch, views, size, size, 3]: `local_features` [batch, views, bottleneck].
    `weights` are what losses compare features with, and have no batch dimension: `caption` [vocab,
    width], `view` and `patch` [prototypes, bottleneck].
    """

    def __init__(
        self,
        settings: config.Siglip2,
        preprocessing: Preprocessing,
        dtype: str,
        *,
        rngs: Rngs,
    ):
        super().__init__(settings, preprocessing, dtype, rngs=rngs)
        image, text, heads = settings.towers["image"], settings.towers["text"], settings.heads
        width = image.transformer.width
        self.captioner = Captioner(
            settings.decoder, text.vocab_size, text.length, width, dtype, rngs=rngs
        )
        pooled = width if image.projection == "none" else settings.embed
        widths = {} if heads is None else {"view": pooled, "patch": width}
        self.heads = nnx.Dict(
            {name: PrototypeHead(heads, size, rngs=rngs) for name, size in widths.items()}
        )
        self.blank = parameter(zeros, rngs, (width,), ("embed",)) if heads else None

    def __call__(self, batch: dict, key: jax.Array | None = None) -> dict:
        outputs = {
            "temperature": {pair: t() for pair, t in self.temperature.items()},
            "weights": {name: head.directions() for name, head in self.heads.items()},
        }
        if "image" in batch:
            outputs |= self._pair(batch, fold(key, 0))
            outputs["weights"]["caption"] = self.captioner.tokens.table[...]
        if "view" in batch:
            outputs |= self._view(batch["view"], batch.get("masked_patches"), fold(key, 1))
        if "local_views" in batch:
            views = rearrange(batch["local_views"], "b n h w c -> (b n) h w c")
            pooled = self.towers["image"](views, key=fold(key, 2))["embedding"]
            features = rearrange(
                self.heads["view"](pooled), "(b n) e -> b n e", b=len(batch["local_views"])
            )
            outputs["local_features"] = constrain(features, "batch", None, None)
        return outputs

    def _pair(self, batch: dict, key: jax.Array | None) -> dict:
        picture = self.towers["image"](batch["image"], key=fold(key, 0))
        captions = self.captioner(
            batch["text"],
            picture["tokens"],
            parallel=batch.get("parallel"),
            picture_mask=picture.get("mask"),
            key=fold(key, 1),
        )
        return {
            "image": constrain(normalise(picture["embedding"]), "batch", None),
            "text": self.encode("text", batch["text"], key=fold(key, 2)),
            "caption_features": captions,
        }

    def _view(self, view: jax.Array, masked: jax.Array | None, key: jax.Array | None) -> dict:
        tower = self.towers["image"]
        first = int(tower.settings.class_token)
        if masked is None:
            seen = tower(view, key=key)
            return {
                "view_features": self.heads["view"](seen["embedding"]),
                "patch_features": self.heads["patch"](seen["tokens"][:, first:]),
            }
        tokens = tower(view, blank=(masked, self.blank[...]), key=key)["tokens"][:, first:]
        chosen = jnp.take_along_axis(tokens, masked[..., None], axis=1)
        return {"masked_features": self.heads["patch"](chosen)}
