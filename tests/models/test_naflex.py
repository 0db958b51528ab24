"""Pictures of any aspect ratio: positions resized to each, padding left out."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from multimodal.config import ImageTower, Transformer
from multimodal.data.patches import cut
from multimodal.models.embeddings import grid_weights
from multimodal.models.rngs import Rngs
from multimodal.models.towers import VisionTower
from multimodal.preprocessing import Preprocessing
from tests.models import oracle

STACK = Transformer(width=12, depth=2, heads=3, mlp=16)
SQUARE = ImageTower(image_size=16, patch_size=4, transformer=STACK)
FLEXIBLE = dataclasses.replace(SQUARE, max_patches=18)
PREPROCESSING = Preprocessing(image_size=16, mean=(0.2, 0.5, 0.7), std=(0.1, 0.2, 0.4))
RNG = np.random.default_rng(0)


def tower(settings, **options):
    """The compiled tower with large random parameters."""
    settings = dataclasses.replace(settings, **options)

    @jax.jit
    def run(images):
        made = VisionTower(settings, PREPROCESSING, 12, "float32", rngs=Rngs(0))
        return oracle.randomised(made)(images)

    return run


def batch(pictures, length=18, rest=0):
    """As `data.patches.stack`, with `rest` in the padding."""
    patches = np.full((len(pictures), length, 48), rest, np.uint8)
    for row, picture in zip(patches, pictures, strict=True):
        rows = cut(picture, 4)
        row[: len(rows)] = rows
    return {
        "patches": patches,
        "grid": np.array([[p.shape[0] // 4, p.shape[1] // 4] for p in pictures]),
    }


def picture(rows, columns):
    return RNG.integers(0, 256, (4 * rows, 4 * columns, 3), np.uint8)


def test_positions_are_resized_as_pillow_resizes():
    side, grids = 5, [(5, 5), (1, 1), (2, 3), (3, 2), (1, 30), (6, 5), (4, 7), (0, 0)]
    table = RNG.normal(size=(side, side)).astype(np.float32)
    weights = jax.jit(lambda grid: grid_weights(grid, 30, side))(jnp.array(grids))
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-6)
    ours = np.asarray(weights) @ table.ravel()
    for row, (rows, columns) in zip(ours[:-1], grids, strict=False):
        wanted = Image.fromarray(table).resize((columns, rows), Image.Resampling.BILINEAR)
        wanted = np.asarray(wanted).ravel()
        np.testing.assert_allclose(
            row[: wanted.size], wanted, atol=2e-6, err_msg=f"{rows}x{columns}"
        )
        np.testing.assert_allclose(row[wanted.size :], wanted[0], atol=2e-6)


@pytest.mark.parametrize("pooler", ["map", "mean"])
def test_the_learnt_square_needs_no_resizing(pooler):
    pictures = [picture(4, 4), picture(4, 4)]
    flexible, square = tower(FLEXIBLE, pooler=pooler), tower(SQUARE, pooler=pooler)
    wanted = square(np.stack(pictures))
    ours = flexible(batch(pictures))
    np.testing.assert_allclose(ours["embedding"], wanted["embedding"], atol=1e-4)
    np.testing.assert_allclose(ours["tokens"][:, :16], wanted["tokens"], atol=1e-4)
    np.testing.assert_array_equal(ours["mask"], np.arange(18) < [[16], [16]])


@pytest.mark.parametrize("pooler", ["map", "mean"])
def test_padding_is_not_looked_at(pooler):
    flexible, pictures = tower(FLEXIBLE, pooler=pooler), [picture(2, 4), picture(3, 5)]
    ours = flexible(batch(pictures))["embedding"]
    other = flexible(batch(pictures, rest=200))["embedding"]
    np.testing.assert_allclose(other, ours, atol=1e-5)
    turned = flexible(batch([pictures[0].reshape(16, 8, 3), pictures[1]]))["embedding"]
    assert np.abs(turned[0] - ours[0]).max() > 1e-3


def test_a_slot_of_zeros_stays_finite():
    run, grid = tower(FLEXIBLE), np.zeros((1, 2), np.int32)

    def total(patches):
        return run({"patches": patches, "grid": grid})["embedding"].sum()

    value, gradient = jax.value_and_grad(total)(np.zeros((1, 18, 48), np.float32))
    assert np.isfinite(value) and np.isfinite(gradient).all()
