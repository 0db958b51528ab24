"""CoCa: words look back, the class token stands apart, padding counts for nothing."""

import jax
import numpy as np
import pytest

from multimodal.config import CoCa, ImageTower, TextTower, Transformer
from multimodal.models.build import build
from multimodal.preprocessing import Preprocessing

STACK = Transformer(width=12, depth=2, heads=3, mlp=16)
CAUSAL = Transformer(width=12, depth=2, heads=3, mlp=16, causal=True)
DECODER = Transformer(width=12, depth=2, heads=3, mlp=16, causal=True, cross_attention=True)
SETTINGS = CoCa(
    ImageTower(image_size=8, patch_size=4, pooler="none", transformer=STACK),
    TextTower(vocab_size=20, length=7, pooler="none", transformer=CAUSAL),
    DECODER,
    embed=6,
    queries=3,
    pooler_heads=2,
)
RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(2, 8, 8, 3)).astype(np.float32)
IDS = RNG.integers(1, 20, (2, 7))


@pytest.fixture(scope="module")
def run():
    model = build(SETTINGS, Preprocessing(image_size=8, length=7), "float32")
    params = jax.jit(model.init)(jax.random.key(0))
    return jax.jit(lambda images, ids: model.bind(params)({"image": images, "text": ids}))


def test_captions_look_back_only_and_the_embedding_sees_every_word(run):
    before = run(IMAGES, IDS)
    assert before["caption_logits"].shape == (2, 7, 20)
    for changed in range(7):
        ids = IDS.copy()
        ids[:, changed] = ids[:, changed] % 19 + 1
        after = run(IMAGES, ids)
        moved = np.abs(after["caption_logits"] - before["caption_logits"]).max(-1) > 1e-6
        np.testing.assert_array_equal(moved, np.broadcast_to(np.arange(7) >= changed, (2, 7)))
        assert (np.abs(after["text"] - before["text"]).max(-1) > 1e-6).all()
        np.testing.assert_allclose(after["image"], before["image"], atol=1e-6)


def test_the_picture_moves_captions_and_not_the_text_embedding(run):
    before, after = run(IMAGES, IDS), run(-IMAGES, IDS)
    assert (np.abs(after["caption_logits"] - before["caption_logits"]).max(-1) > 1e-6).all()
    np.testing.assert_allclose(after["text"], before["text"], atol=1e-6)


def test_padding_does_not_move_the_text_embedding(run):
    padded = IDS.copy()
    padded[:, 4:] = 0
    short = run(IMAGES, IDS[:, :4])["text"]
    np.testing.assert_allclose(run(IMAGES, padded)["text"], short, atol=1e-5)
