"""Against scikit-learn and closed forms."""

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    top_k_accuracy_score,
)

from multimodal.evaluation import bootstrap, ranking
from multimodal.evaluation.classes import class_embeddings, classification, zero_shot_accuracy


def _unit(rng, *shape):
    x = rng.normal(size=shape)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def test_zero_shot_accuracy_and_confusion(rng, monkeypatch):
    monkeypatch.setattr(ranking, "_BLOCK", 30)
    classes, labels = _unit(rng, 7, 8), rng.integers(0, 7, 50)
    images = _unit(rng, 50, 8) + 0.8 * classes[labels]
    values, confusion = zero_shot_accuracy(images, classes[:, None], labels)
    predicted = (images @ classes.T).argmax(1)
    expected = np.zeros((7, 7))
    for label, prediction in zip(labels, predicted, strict=True):
        expected[label, prediction] += 1
    np.testing.assert_allclose(confusion, expected)
    assert values["accuracy"] == pytest.approx((predicted == labels).mean())
    first = np.argsort(-(images @ classes.T), 1)[:, :5]
    assert values["accuracy_top5"] == pytest.approx((first == labels[:, None]).any(1).mean())
    assert values["chance/accuracy"] == pytest.approx(1 / 7)
    assert values["chance/accuracy_top5"] == pytest.approx(5 / 7)


def test_a_class_is_as_near_as_the_nearest_of_its_prompts(rng):
    prompts, images, labels = _unit(rng, 7, 3, 8), _unit(rng, 50, 8), rng.integers(0, 7, 50)
    values, confusion = zero_shot_accuracy(images, prompts, labels)
    scores = np.stack([[max(p @ image for p in own) for own in prompts] for image in images])
    assert values["accuracy"] == pytest.approx((scores.argmax(1) == labels).mean())
    assert confusion.sum() == 50
    by_mean, _ = zero_shot_accuracy(images, class_embeddings(prompts)[:, None], labels)
    assert by_mean["accuracy"] != values["accuracy"]


def test_collapsed_zero_shot_is_chance_and_its_confusion_adds_up():
    values, confusion = zero_shot_accuracy(np.ones((6, 2)), np.ones((3, 4, 2)), np.arange(6) % 3)
    assert values == pytest.approx(dict.fromkeys(values, 1 / 3))
    np.testing.assert_allclose(confusion, np.full((3, 3), 2 / 3))


def test_class_embeddings_are_the_normalised_mean(rng):
    templates = _unit(rng, 4, 3, 8).astype(np.float32)
    expected = templates.sum(1) / np.linalg.norm(templates.sum(1), axis=1, keepdims=True)
    np.testing.assert_allclose(class_embeddings(templates), expected, atol=1e-6)


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_figures_equal_those_of_scikit_learn(rng):
    """Unbalanced classes, one of which never occurs among the labels."""
    labels = rng.choice(8, 300, p=[0.4, 0.2, 0.1, 0.1, 0.1, 0.05, 0.05, 0])
    scores = rng.normal(size=(300, 8)) + 1.2 * np.eye(8)[labels]
    values, confusion = classification([scores[:7], scores[7:]], labels, 8)
    predicted = scores.argmax(1)
    wanted = {
        "accuracy": accuracy_score(labels, predicted),
        "accuracy_top5": top_k_accuracy_score(labels, scores, k=5, labels=np.arange(8)),
        "mean_per_class_recall": balanced_accuracy_score(labels, predicted),
    }
    assert {name: values[name] for name in wanted} == pytest.approx(wanted, abs=1e-12)
    np.testing.assert_allclose(confusion, confusion_matrix(labels, predicted, labels=np.arange(8)))


def test_intervals_resample_examples(rng, monkeypatch):
    monkeypatch.setattr(bootstrap, "RESAMPLES", 4000)
    labels = rng.integers(0, 3, 60)
    scores = rng.normal(size=(60, 3)) + np.eye(3)[labels]
    values, _ = classification([scores], labels, 3)
    right = scores.argmax(1) == labels
    drawn = rng.integers(0, 60, (4000, 60))
    balanced = [np.mean([right[d][labels[d] == c].mean() for c in range(3)]) for d in drawn]
    for name, means in (("accuracy", right[drawn].mean(1)), ("mean_per_class_recall", balanced)):
        ends = [values[f"{name}/{end}"] for end in ("low", "high")]
        np.testing.assert_allclose(ends, np.quantile(means, (0.025, 0.975)), atol=0.012)


def test_neither_order_nor_blocks_matter(rng):
    labels = rng.integers(0, 6, 90)
    scores = rng.integers(0, 4, (90, 6)).astype(float)  # many ties
    values, confusion = classification([scores], labels, 6)
    order = rng.permutation(90)
    blocks = np.array_split(scores[order], 7)
    again, shuffled = classification(blocks, labels[order], 6)
    assert again == pytest.approx(values, abs=1e-12)
    np.testing.assert_allclose(shuffled, confusion)
