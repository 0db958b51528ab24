"""Against sorting by brute force and closed forms."""

import math

import numpy as np
import pytest

from multimodal.evaluation import bootstrap, ranking
from multimodal.evaluation.recalls import language_recalls, retrieval_recalls


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
    monkeypatch.setattr(ranking, "_BLOCK", block)
    values = retrieval_recalls(*data)
    for k in (1, 5, 10):
        to_text, to_image = _brute(*data, k)
        assert 0.1 < to_text.mean() < 1
        assert values[f"image_to_text_R@{k}"] == pytest.approx(to_text.mean(), abs=1e-12)
        assert values[f"text_to_image_R@{k}"] == pytest.approx(to_image.mean(), abs=1e-12)


def test_recalls_by_a_value_of_the_image(data):
    images, texts, owner = data
    groups = [2, 10, "many", 2] * 10
    values = retrieval_recalls(*data, by={"count": groups})
    to_text, to_image = _brute(*data, 1)
    for group in (2, 10, "many"):
        member = np.array([g == group for g in groups])
        assert values[f"image_to_text_R@1/count={group}"] == pytest.approx(to_text[member].mean())
        assert values[f"text_to_image_R@1/count={group}"] == pytest.approx(
            to_image[member[owner]].mean()
        )
    keys = [key for key in values if key.startswith("image_to_text_R@1/count")]
    keys = [key for key in keys if not key.endswith(("/low", "/high"))]
    assert [key.partition("=")[2] for key in keys] == ["2", "10", "many"]


def test_order_of_images_and_texts_does_not_matter(data, rng):
    images, texts, owner = data
    new, shuffled = rng.permutation(len(images)), rng.permutation(len(texts))
    moved = np.argsort(new)[owner][shuffled]
    assert retrieval_recalls(images[new], texts[shuffled], moved) == pytest.approx(
        retrieval_recalls(*data), abs=1e-12
    )


def test_chance_is_the_closed_form_and_what_a_collapsed_model_scores():
    owner = np.array([0, 0, 1, 2, 2, 2, 3, 4, 5, 5])
    images, texts = np.ones((6, 3)) / np.sqrt(3), np.ones((10, 3)) / np.sqrt(3)
    for i, t in ((images, texts), (images * np.nan, texts)):
        values = retrieval_recalls(i, t, owner)
        for k in (1, 5, 10):
            to_text = np.mean([1 - math.comb(10 - c, k) / math.comb(10, k) for c in (2, 1, 3)])
            to_text = (
                to_text / 2
                + np.mean([1 - math.comb(10 - c, k) / math.comb(10, k) for c in (1, 1, 2)]) / 2
            )
            for prefix in ("", "chance/"):
                assert values[f"{prefix}image_to_text_R@{k}"] == pytest.approx(to_text)
                assert values[f"{prefix}text_to_image_R@{k}"] == pytest.approx(min(k / 6, 1))


def test_an_image_without_text_is_refused():
    with pytest.raises(ValueError, match="every image needs a text"):
        retrieval_recalls(np.eye(3), np.eye(3), np.array([0, 1, 1]))


def test_an_embedding_that_is_not_a_number_comes_last(data):
    images, texts, owner = data
    spoilt = images.copy()
    spoilt[3] = np.nan
    values = retrieval_recalls(spoilt, texts, owner)
    scores = texts @ images.T
    scores[:, 3] = -9
    best = np.argsort(-scores, 1)[:, :5]
    wanted = (best == owner[:, None]).any(1).mean()
    assert values["text_to_image_R@5"] == pytest.approx(wanted, abs=1e-12)


def test_intervals_resample_images_with_all_their_texts(data, monkeypatch):
    images, texts, owner = data
    monkeypatch.setattr(bootstrap, "RESAMPLES", 4000)
    values = retrieval_recalls(*data)
    _, to_image = _brute(*data, 1)
    hits, counts = np.bincount(owner, to_image), np.bincount(owner)
    rng = np.random.default_rng(5)
    drawn = rng.integers(0, 40, (4000, 40))
    means = hits[drawn].sum(1) / counts[drawn].sum(1)
    ends = [values[f"text_to_image_R@1/{end}"] for end in ("low", "high")]
    np.testing.assert_allclose(ends, np.quantile(means, (0.025, 0.975)), atol=0.012)
    assert ends[0] < values["text_to_image_R@1"] < ends[1]


def test_languages_apart_are_searched_alone(rng):
    """Each language has its own noise, `fr` only every second image."""
    images = _unit(rng, 24, 8)
    owner, tags = np.array([[i, i, i] for i in range(24)]).ravel(), ["en", "de", "fr"] * 24
    kept = np.array([t != "fr" or i % 2 == 0 for i, t in zip(owner, tags, strict=True)])
    owner, tags = owner[kept], np.array(tags)[kept]
    texts = images[owner] + np.array([{"en": 0.3, "de": 0.6, "fr": 0.9}[t] for t in tags])[
        :, None
    ] * rng.normal(size=(len(owner), 8))
    values = language_recalls(images, texts, owner, tags)
    means = {}
    for tag in ("en", "de", "fr"):
        rows = tags == tag
        step = 2 if tag == "fr" else 1
        wanted = retrieval_recalls(images[::step], texts[rows], owner[rows] // step)
        for key, value in wanted.items():
            head, _, end = key.partition("/") if key.endswith(("/low", "/high")) else (key, "", "")
            assert values[f"{head}/language={tag}" + (f"/{end}" if end else "")] == value
            if tag == "en":
                assert values[key] == value
            else:
                means.setdefault(head, []).append(value) if not end else None
    for key, pair in means.items():
        assert values[f"{key}/language=others"] == pytest.approx(np.mean(pair), abs=1e-12)
    name = "text_to_image_R@1/language=others"
    assert values[f"{name}/low"] < values[name] < values[f"{name}/high"]
    turned = rng.permutation(24)
    order = np.concatenate([np.flatnonzero(owner == i) for i in turned])
    moved = np.argsort(turned)[owner[order]]
    again = language_recalls(images[turned], texts[order], moved, tags[order])
    assert again == pytest.approx(values, abs=1e-12) and list(again) == list(values)
