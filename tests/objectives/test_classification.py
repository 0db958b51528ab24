"""Cross-entropy over classes against targets written out in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multimodal import config
from multimodal.objectives.classification import Classification
from multimodal.objectives.objective import Vocabulary

SIZE, CLASSES = 12, 7
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)


def objective(**options):
    settings = config.Classification(**options)
    return Classification(settings, Vocabulary(0, 0, -1, (), MEAN, STD))


def batch(broken=()):
    rng = np.random.default_rng(0)
    valid = np.ones(SIZE, bool)
    valid[list(broken)] = False
    image = rng.integers(0, 256, (SIZE, 8, 8, 3), np.uint8)
    image[~valid] = 0
    label = rng.integers(0, CLASSES, SIZE).astype(np.int32)
    return {"image": image, "label": label, "valid": valid}


def scores():
    return np.random.default_rng(1).normal(0, 3, (SIZE, CLASSES)).astype(np.float32)


def oracle(loss, logits, targets, valid):
    """Mean over whole examples of the cross-entropy with [batch, classes] targets."""
    logits = logits.astype(np.float64)
    if loss == "softmax":
        log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        each = -(targets * log_p).sum(-1)
    else:
        p = 1 / (1 + np.exp(-logits))
        each = -(targets * np.log(p) + (1 - targets) * np.log(1 - p)).sum(-1)
    return each[valid].mean()


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("mixup", [0.0, 0.2])
def test_equals_targets_written_out(loss, smoothing, mixup):
    drawn = batch(broken=(3, 11))
    o = objective(loss=loss, label_smoothing=smoothing, mixup=mixup)
    prepared = o.prepare(jax.tree.map(jnp.asarray, drawn), jax.random.key(5))
    own = np.eye(CLASSES)[drawn["label"]]
    targets = own
    if mixup:
        share = np.asarray(prepared["share"])[:, None]
        targets = share * own + (1 - share) * np.roll(own, 1, axis=0)
    targets = (1 - smoothing) * targets + smoothing / CLASSES
    logits = scores()
    total, figures = o.loss({"class_logits": jnp.asarray(logits)}, prepared, prepared)
    np.testing.assert_allclose(total, oracle(loss, logits, targets, drawn["valid"]), rtol=1e-5)
    right = (logits.argmax(-1) == drawn["label"])[drawn["valid"]]
    np.testing.assert_allclose(figures["accuracy"], right.mean(), rtol=1e-6)


def test_mixup_blends_normalised_pictures_at_one_ratio():
    drawn = batch(broken=(3,))
    prepare = jax.jit(objective(mixup=0.2).prepare)
    made = [prepare(drawn, jax.random.key(k)) for k in range(200)]
    shares = np.array([m["share"] for m in made])
    ratio = shares[:, 0]
    # The neighbour of the broken one stays as it is; all others of a batch share one ratio.
    np.testing.assert_array_equal(shares[:, 4], 1)
    np.testing.assert_array_equal(np.delete(shares, 4, axis=1), np.repeat(ratio[:, None], 11, 1))
    # Of Beta(0.2, 0.2) the larger part: mean 0.8988, deviation 0.1397 (integrated).
    assert ratio.min() >= 0.5
    assert abs(ratio.mean() - 0.8988) < 4 * 0.1397 / 200**0.5

    normal = (drawn["image"].astype(np.float64) / 255 - MEAN) / STD
    m, wide = made[7], shares[7][:, None, None, None].astype(np.float64)
    want = wide * normal + (1 - wide) * np.roll(normal, 1, axis=0)
    assert m["image"].dtype == jnp.float32 and 0.5 < ratio[7] < 1
    np.testing.assert_allclose(m["image"], want, atol=2e-6)
    np.testing.assert_array_equal(m["other_label"], np.roll(drawn["label"], 1))


def test_without_mixup_the_pictures_stay_bytes():
    drawn = batch()
    assert objective().prepare(drawn, jax.random.key(0)) is drawn


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_microbatches_add_up(loss):
    drawn, o = batch(broken=(2, 3, 4)), objective(loss=loss, mixup=0.2)
    whole = o.prepare(jax.tree.map(jnp.asarray, drawn), jax.random.key(0))
    logits = jnp.asarray(scores())
    at_once, figures = o.loss({"class_logits": logits}, whole, whole)
    parts = [
        o.loss({"class_logits": logits[i::3]}, jax.tree.map(lambda x, i=i: x[i::3], whole), whole)
        for i in range(3)
    ]
    np.testing.assert_allclose(sum(p[0] for p in parts), at_once, rtol=1e-6)
    accuracies = [p[1]["accuracy"] for p in parts]
    np.testing.assert_allclose(sum(accuracies), figures["accuracy"], rtol=1e-6)


def test_a_label_beyond_the_classes_is_not_taken_for_another():
    drawn = batch()
    drawn["label"][0] = CLASSES
    total, _ = objective().loss({"class_logits": jnp.asarray(scores())}, drawn, drawn)
    assert np.isnan(total)
