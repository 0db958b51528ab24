"""Image-text matching: who is swapped, what the label says, and the loss against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np

from multimodal import config
from multimodal.objectives.matching import Matching
from multimodal.objectives.objective import Vocabulary

VOCABULARY = Vocabulary(260, 0, 3, (0, 1, 2, 3))
SIZE = 16


def matching(rate=0.5):
    return Matching(config.Matching(rate=rate), VOCABULARY)


def batch_of(size=SIZE, broken=()):
    """Pictures that show their own number."""
    image = np.broadcast_to(np.arange(size)[:, None, None, None], (size, 2, 2, 3))
    valid = ~np.isin(np.arange(size), broken)
    text = np.arange(size)[:, None]
    return {"image": jnp.asarray(image), "text": jnp.asarray(text), "valid": jnp.asarray(valid)}


def prepared(seed, rate=0.5, **options):
    """Numbers of the pictures, labels and validity after `prepare`."""
    batch = matching(rate).prepare(batch_of(**options), jax.random.key(seed))
    shown = np.asarray(batch["image"])[:, 0, 0, 0]
    assert (np.asarray(batch["image"]) == shown[:, None, None, None]).all()
    return shown, np.asarray(batch["match"]), np.asarray(batch["valid"])


def test_the_label_says_whether_the_picture_is_the_own():
    distances = set()
    for seed in range(20):
        shown, match, valid = prepared(seed)
        np.testing.assert_array_equal(match, shown == np.arange(SIZE))
        distances |= {(np.arange(SIZE) - shown)[match == 0].item(0) % SIZE} if 0 in match else set()
        assert valid.all()
    assert len(distances) > 5 and 0 not in distances


def test_the_share_that_is_swapped():
    count = sum(int((prepared(seed, rate=0.3)[1] == 0).sum()) for seed in range(100))
    assert abs(count - 0.3 * 1600) < 4 * np.sqrt(1600 * 0.3 * 0.7)
    assert prepared(0, rate=0.0)[1].all()
    assert not prepared(0, rate=1.0)[1].any()


def test_neither_a_broken_text_nor_a_broken_picture_counts():
    broken = (3, 8, 9)
    for seed in range(10):
        shown, _, valid = prepared(seed, broken=broken)
        own = ~np.isin(np.arange(SIZE), broken)
        np.testing.assert_array_equal(valid, own & ~np.isin(shown, broken))


def test_an_example_alone_keeps_its_picture():
    shown, _, valid = prepared(0, rate=1.0, size=1)
    assert shown == [0] and valid.all()


def test_the_rest_of_the_batch_stays():
    batch = batch_of()
    made = matching().prepare(batch, jax.random.key(0))
    np.testing.assert_array_equal(made["text"], batch["text"])
    assert made["image"].dtype == batch["image"].dtype


def test_loss_is_the_mean_over_valid_pairs():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (SIZE, 2)).astype(np.float32)
    batch = matching().prepare(batch_of(broken=(2, 5)), jax.random.key(4))
    match, valid = np.asarray(batch["match"]), np.asarray(batch["valid"])
    loss, figures = matching().loss({"match_logits": jnp.asarray(logits)}, batch, batch)
    margin = logits.astype(np.float64)[np.arange(SIZE), 1 - match]
    margin -= logits[np.arange(SIZE), match]
    np.testing.assert_allclose(loss, np.logaddexp(0, margin)[valid].mean(), rtol=1e-6)
    np.testing.assert_allclose(figures["accuracy"], (margin < 0)[valid].mean(), rtol=1e-6)
    halves = 0.0
    for part in (slice(0, 4), slice(4, SIZE)):
        micro = {name: x[part] for name, x in batch.items()}
        halves += matching().loss({"match_logits": jnp.asarray(logits[part])}, micro, batch)[0]
    np.testing.assert_allclose(halves, loss, rtol=1e-6)
