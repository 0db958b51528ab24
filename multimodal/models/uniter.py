"""UNITER: words and regions of a picture in one stream (Chen et al. 2020)."""

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import nnx

from multimodal import config
from multimodal.models.bert import PairHead, WordHead
from multimodal.models.embeddings import PatchEmbed, Positions, TokenEmbed
from multimodal.models.initializers import edge_init
from multimodal.models.layers import LayerNorm, Linear, dropout, fold, parameter
from multimodal.models.rngs import Rngs
from multimodal.models.stack import Stack
from multimodal.preprocessing import Preprocessing


def grid_boxes(cells: int) -> np.ndarray:
    """The 7 numbers of each cell of a grid: x1, y1, x2, y2, w, h, w * h, in shares of the picture.
    [cells * cells, 7], row by row."""
    y, x = np.divmod(np.arange(cells * cells), cells) / np.float32(cells)
    side = np.full_like(x, 1 / cells)
    return np.stack([x, y, x + side, y + side, side, side, side * side], axis=-1)


class Uniter(nnx.Module):
    """Words then regions through one post-norm stack. Regions are the cells of a grid of pixels.

    Inputs `text` [batch, length] and `image`; outputs `word_logits` [batch, length, vocab] and
    `match_logits` [batch, 2].
    """

    def __init__(
        self,
        settings: config.Uniter,
        preprocessing: Preprocessing,
        dtype: str,
        *,
        rngs: Rngs,
    ):
        s, t = settings, settings.transformer
        init = edge_init(t.init, t.width)
        self.settings, self.pad_id = t, s.pad_id
        self.cells = s.image_size // s.region_size

        def norm() -> LayerNorm:
            return LayerNorm(t.width, t.norm_eps, rngs=rngs)

        self.words = TokenEmbed(s.vocab_size, t.width, init.token, dtype=dtype, rngs=rngs)
        self.positions = Positions(s.length, t.width, init.text_position, rngs=rngs)
        self.types = parameter(init.token, rngs, (2, t.width), (None, "embed"))
        self.word_norm = norm()
        self.regions = PatchEmbed(
            s.region_size,
            t.width,
            init,
            mean=preprocessing.mean,
            std=preprocessing.std,
            dtype=dtype,
            bias=True,
            rngs=rngs,
        )
        self.boxes = Linear(7, t.width, (None, "embed"), init.projection, rngs=rngs)
        self.region_norm, self.box_norm, self.image_norm = norm(), norm(), norm()
        self.stack = Stack(t, rngs=rngs)
        self.word_head = WordHead(t, s.vocab_size, rngs=rngs)
        self.pair_head = PairHead(t, rngs=rngs)

    def __call__(self, batch: dict, key: jax.Array | None = None) -> dict:
        ids, rate = batch["text"], self.settings.dropout
        types = self.types[...]
        words = self.positions(self.words(ids))
        words = self.word_norm(words + types[0].astype(words.dtype))
        regions = self.regions(batch["image"])
        boxes = self.boxes(jnp.asarray(grid_boxes(self.cells), regions.dtype))
        regions = self.region_norm(regions) + self.box_norm(boxes)
        regions = self.image_norm(regions + types[1].astype(regions.dtype))
        x = dropout(jnp.concatenate([words, regions], axis=1), rate, fold(key, 0))
        real = jnp.concatenate([ids != self.pad_id, jnp.ones(regions.shape[:2], bool)], axis=1)
        x, _ = self.stack(x, mask=rearrange(real, "b k -> b 1 1 k"), key=fold(key, 1))
        return {
            "word_logits": self.word_head(x[:, : ids.shape[1]], self.words),
            "match_logits": self.pair_head(x),
        }
