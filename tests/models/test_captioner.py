"""The captioning decoder: words look back or are not there at all; every row sees the picture."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multimodal.config import Transformer
from multimodal.models.captioner import Captioner
from multimodal.models.rngs import Rngs
from tests.models import oracle

DECODER = Transformer(width=12, depth=2, heads=3, mlp=16, cross_attention=True)
LENGTH = 7
RNG = np.random.default_rng(0)
PICTURE = RNG.normal(size=(3, 4, 8)).astype(np.float32)
IDS = RNG.integers(1, 20, (3, LENGTH))
PARALLEL = np.array([False, True, False])


@pytest.fixture(scope="module")
def run():
    made = Captioner(DECODER, 20, LENGTH, 8, "float32", rngs=Rngs(0))
    captioner = oracle.randomised(made)
    return jax.jit(lambda ids, picture, **options: captioner(ids, picture, **options))


def moved(a, b):
    """[batch, length], True where a row of features changed."""
    return np.abs(np.asarray(a) - np.asarray(b)).max(-1) > 1e-5


def test_a_word_moves_the_rows_behind_it_and_none_where_all_are_predicted_at_once(run):
    before = run(IDS, PICTURE, parallel=PARALLEL)
    assert before.shape == (3, LENGTH, 12)
    for changed in range(LENGTH):
        ids = IDS.copy()
        ids[:, changed] = ids[:, changed] % 19 + 1
        behind = np.arange(LENGTH) > changed
        wanted = behind & ~PARALLEL[:, None]
        np.testing.assert_array_equal(moved(run(ids, PICTURE, parallel=PARALLEL), before), wanted)


def test_every_row_sees_the_whole_picture_in_either_mode(run):
    before = run(IDS, PICTURE, parallel=PARALLEL)
    for patch in range(PICTURE.shape[1]):
        picture = PICTURE.copy()
        picture[:, patch] *= -1
        assert moved(run(IDS, picture, parallel=PARALLEL), before).all()
        real = np.arange(PICTURE.shape[1]) != patch
        mask = np.broadcast_to(real, (3, PICTURE.shape[1]))
        unseen = [run(IDS, p, parallel=PARALLEL, picture_mask=mask) for p in (picture, PICTURE)]
        assert not moved(*unseen).any()


def test_each_example_is_what_it_would_be_among_its_own_kind(run):
    mixed = run(IDS, PICTURE, parallel=PARALLEL)
    one_by_one = run(IDS, PICTURE)
    at_once = run(IDS, PICTURE, parallel=np.ones(3, bool))
    wanted = jnp.where(PARALLEL[:, None, None], at_once, one_by_one)
    np.testing.assert_allclose(mixed, wanted, atol=1e-5)
    # Predicted at once, rows differ by their place alone, and those of one picture are alike.
    same = run(IDS, np.broadcast_to(PICTURE[:1], PICTURE.shape), parallel=np.ones(3, bool))
    np.testing.assert_allclose(same, np.broadcast_to(same[:1], same.shape), atol=1e-5)
    assert moved(same[:, 1:], same[:, :-1]).all()
