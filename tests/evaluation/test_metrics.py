"""Against sorting by brute force, closed forms and simulated random tie-breaking."""

import math

import numpy as np
import pytest

from multimodal.evaluation import metrics


def _unit(rng, *shape):
    x = rng.normal(size=shape)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def _brute(images, texts, owner, k):
    """Shares of hits within the first k of a full sort, one query at a time."""
    to_text = [
        any(owner[t] == i for t in sorted(range(len(texts)), key=lambda t: -(texts[t] @ image))[:k])
        for i, image in enumerate(images)
    ]
    to_image = [
        owner[t] in sorted(range(len(images)), key=lambda i: -(images[i] @ text))[:k]
        for t, text in enumerate(texts)
    ]
    return np.array(to_text, float), np.array(to_image, float)


@pytest.fixture
def data(rng):
    owner = np.concatenate([np.arange(40), rng.integers(0, 40, 83)])
    images = _unit(rng, 40, 16)
    return images, _unit(rng, 123, 16) + 0.7 * images[owner], owner


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.mark.parametrize("block", [1, 500, 1 << 21])
def test_recalls_equal_a_brute_force_sort(data, block, monkeypatch):
    monkeypatch.setattr(metrics, "_BLOCK", block)
    values = metrics.retrieval_recalls(*data)
    for k in (1, 5, 10):
        to_text, to_image = _brute(*data, k)
        assert 0.1 < to_text.mean() < 1
        assert values[f"image_to_text_R@{k}"] == pytest.approx(to_text.mean(), abs=1e-12)
        assert values[f"text_to_image_R@{k}"] == pytest.approx(to_image.mean(), abs=1e-12)


def test_recalls_by_a_value_of_the_image(data):
    images, texts, owner = data
    groups = [2, 10, "many", 2] * 10
    values = metrics.retrieval_recalls(*data, by={"count": groups})
    to_text, to_image = _brute(*data, 1)
    for group in (2, 10, "many"):
        member = np.array([g == group for g in groups])
        assert values[f"image_to_text_R@1/count={group}"] == pytest.approx(to_text[member].mean())
        assert values[f"text_to_image_R@1/count={group}"] == pytest.approx(
            to_image[member[owner]].mean()
        )
    keys = [key for key in values if key.startswith("image_to_text_R@1/")]
    assert [key.partition("=")[2] for key in keys] == ["2", "10", "many"]


def test_order_of_images_and_texts_does_not_matter(data, rng):
    images, texts, owner = data
    new, shuffled = rng.permutation(len(images)), rng.permutation(len(texts))
    moved = np.argsort(new)[owner][shuffled]
    assert metrics.retrieval_recalls(images[new], texts[shuffled], moved) == pytest.approx(
        metrics.retrieval_recalls(*data), abs=1e-12
    )


def test_chance_is_the_closed_form_and_what_a_collapsed_model_scores():
    owner = np.array([0, 0, 1, 2, 2, 2, 3, 4, 5, 5])
    images, texts = np.ones((6, 3)) / np.sqrt(3), np.ones((10, 3)) / np.sqrt(3)
    for i, t in ((images, texts), (images * np.nan, texts)):
        values = metrics.retrieval_recalls(i, t, owner)
        for k in (1, 5, 10):
            to_text = np.mean([1 - math.comb(10 - c, k) / math.comb(10, k) for c in (2, 1, 3)])
            to_text = (
                to_text / 2
                + np.mean([1 - math.comb(10 - c, k) / math.comb(10, k) for c in (1, 1, 2)]) / 2
            )
            for prefix in ("", "chance/"):
                assert values[f"{prefix}image_to_text_R@{k}"] == pytest.approx(to_text)
                assert values[f"{prefix}text_to_image_R@{k}"] == pytest.approx(min(k / 6, 1))


def test_ties_give_the_mean_over_random_orders(rng):
    """Scores on a coarse grid: many ties, each broken at random 4000 times."""
    queries, candidates = np.eye(5), rng.integers(0, 3, (12, 5)).astype(float)
    query_id, candidate_id = np.arange(5), np.arange(12) % 5
    found, _ = metrics.hits(queries, query_id, candidates, candidate_id, (1, 3))
    simulated = np.zeros((5, 2))
    for _ in range(4000):
        order = np.lexsort((rng.random((5, 12)), -(queries @ candidates.T)), axis=1)
        right = candidate_id[order] == query_id[:, None]
        simulated += np.stack([right[:, :k].any(1) for k in (1, 3)], 1)
    np.testing.assert_allclose(found, simulated / 4000, atol=0.035)


def test_an_image_without_text_is_refused():
    with pytest.raises(ValueError, match="every image needs a text"):
        metrics.retrieval_recalls(np.eye(3), np.eye(3), np.array([0, 1, 1]))


def test_zero_shot_accuracy_and_confusion(rng, monkeypatch):
    monkeypatch.setattr(metrics, "_BLOCK", 30)
    classes, labels = _unit(rng, 7, 8), rng.integers(0, 7, 50)
    images = _unit(rng, 50, 8) + 0.8 * classes[labels]
    values, confusion = metrics.zero_shot_accuracy(images, classes[:, None], labels)
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
    values, confusion = metrics.zero_shot_accuracy(images, prompts, labels)
    scores = np.stack([[max(p @ image for p in own) for own in prompts] for image in images])
    assert values["accuracy"] == pytest.approx((scores.argmax(1) == labels).mean())
    assert confusion.sum() == 50
    by_mean, _ = metrics.zero_shot_accuracy(
        images, metrics.class_embeddings(prompts)[:, None], labels
    )
    assert by_mean["accuracy"] != values["accuracy"]


def test_collapsed_zero_shot_is_chance_and_its_confusion_adds_up():
    values, confusion = metrics.zero_shot_accuracy(
        np.ones((6, 2)), np.ones((3, 4, 2)), np.arange(6) % 3
    )
    assert values == pytest.approx({"accuracy": 1 / 3, "chance/accuracy": 1 / 3})
    np.testing.assert_allclose(confusion, np.full((3, 3), 2 / 3))


def test_class_embeddings_are_the_normalised_mean(rng):
    templates = _unit(rng, 4, 3, 8).astype(np.float32)
    expected = templates.sum(1) / np.linalg.norm(templates.sum(1), axis=1, keepdims=True)
    np.testing.assert_allclose(metrics.class_embeddings(templates), expected, atol=1e-6)


def test_top_returns_the_best_first(data):
    images, texts, _ = data
    order, scores = metrics.top(images, texts, 5)
    np.testing.assert_array_equal(order, np.argsort(-(images @ texts.T), 1)[:, :5])
    assert (np.diff(scores) <= 0).all()


def test_an_embedding_that_is_not_a_number_comes_last(data):
    images, texts, owner = data
    spoilt = images.copy()
    spoilt[3] = np.nan
    values = metrics.retrieval_recalls(spoilt, texts, owner)
    scores = texts @ images.T
    scores[:, 3] = -9
    best = np.argsort(-scores, 1)[:, :5]
    wanted = (best == owner[:, None]).any(1).mean()
    assert values["text_to_image_R@5"] == pytest.approx(wanted, abs=1e-12)
