"""Pictures and token ids to sequences of vectors."""

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jax.nn.initializers import Initializer, zeros

from multimodal.errors import UserError
from multimodal.models.initializers import EdgeInit
from multimodal.models.layers import Linear, parameter
from multimodal.models.rngs import Rngs
from multimodal.parallel.rules import constrain


class PatchEmbed(nnx.Module):
    """Non-overlapping patches through one linear map (a strided convolution), row by row.

    A uint8 picture is normalised here, on the device; a float one is taken as normalised.
    """

    def __init__(
        self,
        patch_size: int,
        width: int,
        init: EdgeInit,
        *,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        dtype: str,
        bias: bool,
        rngs: Rngs,
    ):
        self.patch_size, self.mean, self.std, self.dtype = patch_size, mean, std, dtype
        axes = (None, "embed")
        self.linear = Linear(3 * patch_size**2, width, axes, init.patch, rngs=rngs, bias=bias)

    def __call__(self, images: jax.Array) -> jax.Array:
        # [batch, height, width, 3] -> [batch, length, embed]
        p = self.patch_size
        return self.embed(rearrange(images, "b (h p) (w q) c -> b (h w) (p q c)", p=p, q=p))

    def embed(self, patches: jax.Array) -> jax.Array:
        # [batch, length, patch * patch * 3] -> [batch, length, embed]
        if patches.dtype == jnp.uint8:
            mean, std = (
                jnp.tile(jnp.asarray(x), self.patch_size**2) for x in (self.mean, self.std)
            )
            patches = (patches.astype(jnp.float32) / 255 - mean) / std
        return constrain(self.linear(patches.astype(self.dtype)), "batch", "length", None)


class TokenEmbed(nnx.Module):
    """A table of vectors by token id; `logits` uses the same table the other way."""

    def __init__(self, vocab_size: int, width: int, init: Initializer, *, dtype: str, rngs: Rngs):
        self.dtype = dtype
        self.table = parameter(init, rngs, (vocab_size, width), ("vocab", "embed"))

    def __call__(self, ids: jax.Array) -> jax.Array:
        # [batch, length] -> [batch, length, embed]. The table is gathered whole first: looking up
        # rows in a table split over two mesh axes makes XLA rematerialise it in full.
        table = constrain(self.table[...].astype(self.dtype), None, None)
        return constrain(jnp.take(table, ids, axis=0), "batch", "length", None)

    def logits(self, x: jax.Array) -> jax.Array:
        """Scores of every token, float32 [batch, length, vocab]."""
        table = self.table[...].astype(x.dtype)
        scores = jnp.einsum("bld,vd->blv", x, table, preferred_element_type=jnp.float32)
        return constrain(scores, "batch", "length", "vocab")


class Positions(nnx.Module):
    """A learnt vector a position. Raises UserError for a sequence longer than the table."""

    def __init__(self, length: int, width: int, init: Initializer, *, rngs: Rngs):
        self.position = parameter(init, rngs, (length, width), (None, "embed"))

    def __call__(self, x: jax.Array, start: jax.Array | int = 0) -> jax.Array:
        table = self.position[...]
        if x.shape[1] > table.shape[0]:
            raise UserError(
                f"a sequence of {x.shape[1]} positions, but the model has learnt only "
                f"{table.shape[0]}; cut it, or train with a larger config.preprocessing.length"
            )
        rows = jax.lax.dynamic_slice_in_dim(table, start, x.shape[1])
        return x + rows.astype(x.dtype)


class PicturePositions(nnx.Module):
    """A learnt vector a cell of a square grid, class token first, for pictures of one size; those
    of another size are given the grid resized."""

    def __init__(self, side: int, width: int, init: Initializer, *, class_token: bool, rngs):
        self.side, self.first = side, int(class_token)
        length = side * side + self.first
        self.position = parameter(init, rngs, (length, width), (None, "embed"))

    def __call__(self, x: jax.Array, grid: tuple[int, int]) -> jax.Array:
        # [batch, length, embed]; rows and columns of the pictures
        table = self.position[...]
        if grid != (self.side, self.side):
            weights = grid_weights(jnp.array([grid]), grid[0] * grid[1], self.side)[0]
            table = jnp.concatenate([table[: self.first], weights @ table[self.first :]])
        return x + table.astype(x.dtype)


class GridPositions(nnx.Module):
    """A learnt vector a cell of a square grid, resized to the grid of each picture."""

    def __init__(self, side: int, width: int, init: Initializer, *, rngs: Rngs):
        self.side = side
        self.position = parameter(init, rngs, (side * side, width), (None, "embed"))

    def __call__(self, x: jax.Array, grid: jax.Array) -> jax.Array:
        # [batch, length, embed], grid [batch, 2]: rows and columns
        weights = grid_weights(grid, x.shape[1], self.side)
        weights = constrain(weights, "batch", "length", None)
        return x + (weights @ self.position[...]).astype(x.dtype)


def real_patches(grid: jax.Array, length: int) -> jax.Array:
    """Where the patches of grids [batch, 2] end and padding begins: bool [batch, length]."""
    return jnp.arange(length) < grid.prod(axis=-1)[:, None]


def grid_weights(grid: jax.Array, length: int, side: int) -> jax.Array:
    """The share that each cell of a square grid has in each cell of others, when it is resized to
    `grid` [batch, 2] rows and columns: [batch, length, side * side], each row adding up to 1.

    Cells are counted row by row; padding is given those of the first one.
    """
    columns = jnp.maximum(grid[:, 1:], 1)
    cells = jnp.where(real_patches(grid, length), jnp.arange(length), 0)  # [batch, length]
    by_row = _axis_weights(cells // columns, grid[:, :1], side)
    by_column = _axis_weights(cells % columns, grid[:, 1:], side)
    weights = by_row[..., :, None] * by_column[..., None, :]
    return weights.reshape(*cells.shape, side * side)


def _axis_weights(index: jax.Array, size: jax.Array, side: int) -> jax.Array:
    """Triangle filter from `side` points to `size`, widened to the step when shrinking, as
    antialiased bilinear resizing has it: [..., side] at each `index`."""
    step = side / jnp.maximum(size, 1).astype(jnp.float32)
    centre = (index + 0.5) * step
    distance = (jnp.arange(side) + 0.5 - centre[..., None]) / jnp.maximum(step, 1)[..., None]
    weights = jnp.maximum(1 - jnp.abs(distance), 0)
    return weights / weights.sum(-1, keepdims=True)


class ClassToken(nnx.Module):
    """A learnt vector put before the sequence, or after it."""

    def __init__(self, width: int, init: Initializer = zeros, *, rngs: Rngs):
        self.token = parameter(init, rngs, (1, width), (None, "embed"))

    def __call__(self, x: jax.Array, last: bool = False) -> jax.Array:
        token = jnp.broadcast_to(self.token[...].astype(x.dtype), (x.shape[0], 1, x.shape[-1]))
        return jnp.concatenate([x, token] if last else [token, x], axis=1)


def drop_patches(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Keeps a random share 1 - rate of the patches of each picture (Li et al. 2023, FLIP)."""
    if key is None or rate == 0.0:
        return x
    keep = max(1, int(round(x.shape[1] * (1 - rate))))
    order = jnp.argsort(jax.random.uniform(key, x.shape[:2]), axis=1)[:, :keep]
    return jnp.take_along_axis(x, order[..., None], axis=1)
