"""UNITER: boxes of the grid, both modalities in one stream, padding left out."""

import jax
import numpy as np
import pytest

from multimodal.config import Transformer, Uniter
from multimodal.models.build import build
from multimodal.models.uniter import grid_boxes
from multimodal.preprocessing import Preprocessing

STACK = Transformer(
    width=12, depth=2, heads=3, mlp=16, norm_position="post", init="bert", activation="gelu"
)
SETTINGS = Uniter(STACK, vocab_size=20, length=6, image_size=8, region_size=4)
RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(2, 8, 8, 3)).astype(np.float32)
IDS = RNG.integers(1, 20, (2, 6))


@pytest.fixture(scope="module")
def run():
    model = build(SETTINGS, Preprocessing(image_size=8, length=6), "float32")
    params = {k: 10 * x for k, x in jax.jit(model.init)(jax.random.key(0)).items()}
    return jax.jit(lambda images, ids: model.bind(params)({"image": images, "text": ids}))


def test_boxes_go_row_by_row():
    boxes = grid_boxes(2)
    np.testing.assert_allclose(boxes[1], [0.5, 0, 1, 0.5, 0.5, 0.5, 0.25])
    np.testing.assert_allclose(boxes[2], [0, 0.5, 0.5, 1, 0.5, 0.5, 0.25])


def test_words_see_the_picture_and_every_word(run):
    before = run(IMAGES, IDS)
    assert before["word_logits"].shape == (2, 6, 20) and before["match_logits"].shape == (2, 2)
    ids = IDS.copy()
    ids[:, 5] = ids[:, 5] % 19 + 1
    for after in (run(-IMAGES, IDS), run(IMAGES, ids)):
        assert (np.abs(after["word_logits"] - before["word_logits"]).max(-1) > 1e-5).all()
        assert (np.abs(after["match_logits"] - before["match_logits"]).max(-1) > 1e-5).all()


def test_padding_changes_nothing(run):
    padded = IDS.copy()
    padded[:, 4:] = 0
    short, long = run(IMAGES, IDS[:, :4]), run(IMAGES, padded)
    np.testing.assert_allclose(long["word_logits"][:, :4], short["word_logits"], atol=1e-4)
    np.testing.assert_allclose(long["match_logits"], short["match_logits"], atol=1e-4)
