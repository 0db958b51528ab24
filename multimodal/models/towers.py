"""One tower a modality: a raw array in, one embedding and the sequence of tokens out."""

import jax
import jax.numpy as jnp
from flax import nnx

from multimodal.config import ImageTower, Precomputed, TextTower, Transformer
from multimodal.errors import UserError
from multimodal.models.embeddings import (
    ClassToken,
    GridPositions,
    PatchEmbed,
    PicturePositions,
    Positions,
    TokenEmbed,
    drop_patches,
    real_patches,
)
from multimodal.models.initializers import block_init, edge_init
from multimodal.models.layers import LayerNorm, Linear, dropout, fold, parameter
from multimodal.models.poolers import MapPooler, mean_pool, pool_at
from multimodal.models.rngs import Rngs
from multimodal.models.stack import Stack
from multimodal.preprocessing import Preprocessing


def _projection(kind: str, width: int, embed: int, init, rngs: Rngs) -> Linear | None:
    if kind == "none":
        return None
    bias = kind == "linear_bias"
    return Linear(width, embed, ("embed", None), init.projection, rngs=rngs, bias=bias)


def _map_pooler(t: Transformer, rngs: Rngs) -> MapPooler:
    init = block_init(t)
    return MapPooler(t.width, t.heads, t.mlp, t.activation, t.norm_eps, init, rngs=rngs)


class VisionTower(nnx.Module):
    """Vision Transformer over one picture (see `config.ImageTower`)."""

    def __init__(
        self,
        settings: ImageTower,
        preprocessing: Preprocessing,
        embed: int,
        dtype: str,
        *,
        rngs: Rngs,
    ):
        s, t = settings, settings.transformer
        self.settings = s
        init = edge_init(t.init, t.width)
        self.patches = PatchEmbed(
            s.patch_size,
            t.width,
            init,
            mean=preprocessing.mean,
            std=preprocessing.std,
            dtype=dtype,
            bias=s.patch_bias,
            rngs=rngs,
        )
        self.class_token = (
            ClassToken(t.width, init.class_token, rngs=rngs) if s.class_token else None
        )
        side = s.image_size // s.patch_size
        if s.max_patches is None:
            self.positions = PicturePositions(
                side, t.width, init.image_position, class_token=s.class_token, rngs=rngs
            )
        else:
            self.positions = GridPositions(side, t.width, init.image_position, rngs=rngs)
        self.pre_norm = LayerNorm(t.width, t.norm_eps, rngs=rngs) if s.pre_norm else None
        self.stack = Stack(t, rngs=rngs)
        self.final_norm = LayerNorm(t.width, t.norm_eps, rngs=rngs) if s.final_norm else None
        self.pooler = _map_pooler(t, rngs) if s.pooler == "map" else None
        self.projection = _projection(s.projection, t.width, embed, init, rngs)

    def __call__(
        self,
        images: jax.Array | dict,  # [batch, height, width, 3], uint8 or normalised float
        *,
        blank: tuple[jax.Array, jax.Array] | None = None,  # [batch, masked] patches, [width]
        key: jax.Array | None = None,
        capture: tuple[str, ...] = (),
    ) -> dict:
        """{"embedding": [batch, embed], "pooled": [batch, width] before the projection, "tokens":
        [batch, length, width], captured ...}; no embedding with pooler "none".

        Positions are resized to pictures of another size than the tower's. `blank` lists patches
        of each picture and the vector that stands for their embeddings.

        With `max_patches`, `images` are {"patches": [batch, max_patches, patch * patch * 3],
        "grid": [batch, 2], their rows and columns of patches}, and "mask" [batch, max_patches]
        of the outputs says which tokens are real.
        """
        s, real = self.settings, None
        if s.max_patches is None:
            x = self.patches(images)
            if blank is not None:
                hidden = (blank[0][..., None] == jnp.arange(x.shape[1])).any(1)
                x = jnp.where(hidden[..., None], blank[1].astype(x.dtype), x)
            if self.class_token is not None:
                x = self.class_token(x)
            rows, columns = (n // s.patch_size for n in images.shape[1:3])
            x = self.positions(x, grid=(rows, columns))
        else:
            x = self.positions(self.patches.embed(images["patches"]), images["grid"])
            real = real_patches(images["grid"], x.shape[1])
        if s.patch_dropout > 0:
            start = int(s.class_token)
            kept = drop_patches(x[:, start:], s.patch_dropout, fold(key, 0))
            x = jnp.concatenate([x[:, :start], kept], axis=1)
        if self.pre_norm is not None:
            x = self.pre_norm(x)
        x = dropout(x, s.transformer.dropout, fold(key, 1))
        keys = None if real is None else real[:, None, None, :]
        x, captured = self.stack(x, mask=keys, key=fold(key, 2), capture=capture)
        norm = self.final_norm or (lambda x: x)
        outputs = {"tokens": norm(x), **captured}
        if real is not None:
            outputs["mask"] = real
        if s.pooler == "none":
            return outputs
        if s.pooler == "class":
            pooled = norm(x[:, 0])
        else:
            pooled = (self.pooler if s.pooler == "map" else mean_pool)(norm(x), real)
        outputs["pooled"] = pooled
        outputs["embedding"] = pooled if self.projection is None else self.projection(pooled)
        return outputs


class LanguageTower(nnx.Module):
    """Transformer encoder over token ids (see `config.TextTower`)."""

    def __init__(self, settings: TextTower, embed: int, dtype: str, *, rngs: Rngs):
        s, t = settings, settings.transformer
        self.settings = s
        init = edge_init(t.init, t.width)
        self.tokens = TokenEmbed(s.vocab_size, t.width, init.token, dtype=dtype, rngs=rngs)
        self.positions = Positions(s.length, t.width, init.text_position, rngs=rngs)
        kinds = s.token_types
        axes = (None, "embed")
        self.types = parameter(init.token, rngs, (kinds, t.width), axes) if kinds else None
        self.embedding_norm = (
            LayerNorm(t.width, t.norm_eps, rngs=rngs) if s.embedding_norm else None
        )
        self.stack = Stack(t, rngs=rngs)
        self.final_norm = LayerNorm(t.width, t.norm_eps, rngs=rngs) if s.final_norm else None
        self.projection = _projection(s.projection, t.width, embed, init, rngs)

    def __call__(
        self,
        ids: jax.Array,  # [batch, length]
        *,
        mask: jax.Array | None = None,  # [batch, length], True at real tokens
        types: jax.Array | None = None,  # [batch, length], all 0 by default
        key: jax.Array | None = None,
        capture: tuple[str, ...] = (),
    ) -> dict:
        """{"embedding": [batch, embed], "tokens": [batch, length, width], captured ...}."""
        s = self.settings
        if mask is None and s.mask_padding:
            mask = ids != s.pad_id
        x = self.positions(self.tokens(ids))
        if self.types is not None:
            table = self.types[...].astype(x.dtype)
            x = x + (table[0] if types is None else table[types])
        if self.embedding_norm is not None:
            x = self.embedding_norm(x)
        x = dropout(x, s.transformer.dropout, fold(key, 0))
        keys = None if mask is None else mask[:, None, None, :]
        x, captured = self.stack(x, mask=keys, key=fold(key, 1), capture=capture)
        norm = self.final_norm or (lambda x: x)
        outputs = {"tokens": norm(x), **captured}
        if s.pooler == "none":
            return outputs
        if s.pooler == "mean":
            pooled = mean_pool(outputs["tokens"], mask)
        else:
            pooled = norm(pool_at(x, self._position(ids)))
        outputs["embedding"] = pooled if self.projection is None else self.projection(pooled)
        return outputs

    def _position(self, ids: jax.Array) -> jax.Array:
        s = self.settings
        if s.pooler == "argmax":
            return ids.argmax(-1)
        if s.pooler == "end":
            return (ids == s.end_id).argmax(-1)
        return jnp.full(ids.shape[:1], 0 if s.pooler == "first" else ids.shape[1] - 1)


class FeatureTower(nnx.Module):
    """Vectors that a frozen tower gave before (see `config.Precomputed`); only the projection is
    left of it."""

    def __init__(self, settings: Precomputed, embed: int, dtype: str, *, rngs: Rngs):
        self.width, self.dtype = settings.width, dtype
        init = edge_init("vit", settings.width)
        self.projection = _projection(settings.projection, settings.width, embed, init, rngs)

    def __call__(self, features: jax.Array, *, key: jax.Array | None = None) -> dict:
        """{"embedding": [batch, embed]} of [batch, width]. Raises UserError for another width."""
        if features.shape[-1] != self.width:
            raise UserError(
                f"the data's features are {features.shape[-1]} wide, but the model's precomputed "
                f"tower has width={self.width}; they must come from the tower that it stands for"
            )
        x = features.astype(self.dtype)
        return {"embedding": x if self.projection is None else self.projection(x)}
