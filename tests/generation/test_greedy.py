"""Greedy decoding with a cache against running the whole sequence anew for every token."""

import jax
import numpy as np
import pytest

from multimodal.config import ImageTower, PrefixLM, Transformer
from multimodal.errors import UserError
from multimodal.generation.greedy import greedy
from multimodal.models.build import build
from multimodal.preprocessing import Preprocessing

STACK = Transformer(width=16, depth=2, heads=4, mlp=32)
IMAGE = ImageTower(image_size=8, patch_size=4, pooler="none", transformer=STACK)
SETTINGS = PrefixLM(IMAGE, STACK, vocab_size=40, length=12)
RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(4, 8, 8, 3)).astype(np.float32)
PROMPT = RNG.integers(1, 40, (4, 3)).astype(np.int32)
STEPS = 8


@pytest.fixture(scope="module")
def model():
    made = build(SETTINGS, Preprocessing(image_size=8, length=12), "float32")
    params = jax.jit(made.init)(jax.random.key(0))
    # Further from the start, so that texts differ: as they are, a token follows itself.
    larger = {"kernel": 3, "position": 4}
    return made.bind({path: x * larger.get(path.split("/")[-1], 1) for path, x in params.items()})


@pytest.fixture(scope="module")
def uncached(model):
    """Nothing but the model's logits for a whole sequence, whose tail is not written yet."""
    run = jax.jit(lambda batch: model(batch)["caption_logits"])
    length = PROMPT.shape[1]
    ids = np.pad(PROMPT, ((0, 0), (0, STEPS)))
    for i in range(length, length + STEPS):
        batch = {"image": IMAGES, "text": ids, "prefix_length": np.full(4, length)}
        last = np.asarray(run(batch))[:, i - 1]
        top = np.sort(last)[:, -2:]
        assert (top[:, 1] - top[:, 0] > 1e-3).all()  # no near ties to be lucky with
        ids[:, i] = last.argmax(-1)
    return ids[:, length:]


@pytest.fixture(scope="module")
def decode(model):
    return jax.jit(lambda prompt, end: greedy(model, IMAGES, prompt, steps=STEPS, end_id=end))


def test_cached_equals_uncached(decode, uncached):
    np.testing.assert_array_equal(decode(PROMPT, -1), uncached)
    assert len({tuple(row) for row in uncached}) == 4  # each picture its own text
    assert all(len(set(row)) > 3 for row in uncached)


def test_the_picture_matters(decode):
    texts = np.asarray(decode(np.repeat(PROMPT[:1], 4, axis=0), -1))
    assert len({tuple(row) for row in texts}) == 4


def test_more_than_the_learnt_positions_is_refused(model):
    with pytest.raises(UserError, match="3 tokens and 10 more exceed the text length 12"):
        greedy(model, IMAGES, PROMPT, steps=10, end_id=-1)


def test_padding_follows_the_end(decode, uncached):
    end = int(uncached[0, 2])
    got = np.asarray(decode(PROMPT, end))
    for row, whole in zip(got, uncached, strict=True):
        stop = list(whole).index(end) + 1 if end in whole else STEPS
        np.testing.assert_array_equal(row[:stop], whole[:stop])
        assert (row[stop:] == 0).all()
    assert (got[0] == 0).any()
