"""Prefix language model: who sees whom."""

import jax
import numpy as np
import pytest

from multimodal.config import ImageTower, PrefixLM, Transformer
from multimodal.models.build import build
from multimodal.models.prefix_lm import prefix_mask
from multimodal.preprocessing import Preprocessing

STACK = Transformer(width=12, depth=2, heads=3, mlp=16)
SETTINGS = PrefixLM(
    ImageTower(image_size=8, patch_size=4, pooler="none", transformer=STACK),
    STACK,
    vocab_size=30,
    length=7,
)
RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(2, 8, 8, 3)).astype(np.float32)
IDS = RNG.integers(1, 30, (2, 7))


def test_prefix_mask():
    mask = np.asarray(prefix_mask(6, np.array([2, 4])))
    for example, prefix in enumerate([2, 4]):
        for i, j in np.ndindex(6, 6):
            assert mask[example, 0, i, j] == (j < prefix or j <= i)


@pytest.fixture(scope="module")
def logits():
    model = build(SETTINGS, Preprocessing(image_size=8, length=7), "float32")
    params = jax.jit(model.init)(jax.random.key(0))
    run = jax.jit(lambda batch: model.bind(params)(batch)["caption_logits"])
    return lambda images, ids, prefix: np.asarray(
        run({"image": images, "text": ids, "prefix_length": np.array(prefix)})
    )


def test_every_row_sees_the_prefix_and_what_stands_before_it(logits):
    before = logits(IMAGES, IDS, [3, 1])
    assert before.shape == (2, 7, 30)
    for changed in range(7):
        ids = IDS.copy()
        ids[:, changed] = (ids[:, changed] + 1) % 30
        moved = np.abs(logits(IMAGES, ids, [3, 1]) - before).max(-1) > 1e-5
        for example, prefix in enumerate([3, 1]):
            for row in range(7):
                assert moved[example, row] == (changed < prefix or changed <= row)


def test_every_row_sees_the_picture(logits):
    moved = np.abs(logits(-IMAGES, IDS, [1, 1]) - logits(IMAGES, IDS, [1, 1])).max(-1)
    assert (moved > 1e-5).all()
