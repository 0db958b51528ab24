"""Against scikit-learn."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from multimodal.evaluation import ranking
from multimodal.evaluation.probes import logistic_regression, neighbour_votes


def _data(classes, count=240, width=12):
    """Unit vectors about a common direction, as embeddings are, in overlapping classes."""
    rng = np.random.default_rng(classes)
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, count - classes)])
    centres = 0.5 * rng.normal(size=(classes, width)) + 3
    x = centres[labels] + rng.normal(size=(count, width)) * np.linspace(0.1, 1.5, width)
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), labels


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("c", [0.3, 30.0, 3000.0])
def test_logistic_regression_is_that_of_scikit_learn(classes, c):
    x, labels = _data(classes)
    weights, bias = logistic_regression(x, labels, classes, c)
    oracle = LogisticRegression(C=c, tol=1e-9, max_iter=20000, solver="newton-cg")
    oracle.fit(x.astype(np.float64), labels)
    logits = x @ weights + bias
    found = np.exp(logits - logits.max(1, keepdims=True))
    found /= found.sum(1, keepdims=True)
    np.testing.assert_allclose(found, oracle.predict_proba(x.astype(np.float64)), atol=1e-6)


def test_classes_that_can_be_told_apart_and_equal_features_have_a_solution():
    x = np.repeat(np.eye(3), 4, 0)
    weights, bias = logistic_regression(x, np.repeat(np.arange(3), 4), 3, 1e6)
    np.testing.assert_array_equal((np.eye(3) @ weights + bias).argmax(1), np.arange(3))
    weights, bias = logistic_regression(np.ones((6, 2)), np.array([0, 0, 0, 0, 1, 1]), 2, 1.0)
    np.testing.assert_allclose(bias[0] - bias[1] + (weights[:, 0] - weights[:, 1]).sum(),
                               np.log(2), atol=1e-6)  # fmt: skip


@pytest.mark.parametrize("temperature", [0.07, None])
@pytest.mark.parametrize("k", [1, 5, 20])
def test_votes_are_those_of_scikit_learn(k, temperature, monkeypatch):
    monkeypatch.setattr(ranking, "_BLOCK", 5000)
    x, labels = _data(6)
    train, test = x[:180].astype(np.float64), x[180:].astype(np.float64)
    weights = "uniform"
    if temperature:
        weights = lambda distance: np.exp((1 - distance) / temperature)  # noqa: E731
    oracle = KNeighborsClassifier(k, weights=weights, metric="cosine", algorithm="brute")
    wanted = oracle.fit(train, labels[:180]).predict_proba(test)
    votes = np.concatenate(list(neighbour_votes(test, train, labels[:180], 6, k, temperature)))
    np.testing.assert_allclose(votes, wanted, atol=1e-6)


def test_equally_near_neighbours_share_the_places_left():
    features = np.array([[1, 0], [0, 1], [0, 1], [0, 1], [-1, 0]], float)
    labels = np.array([0, 1, 1, 2, 2])
    (votes,) = neighbour_votes(np.array([[1.0, 0.0]]), features, labels, 3, 3, None)
    np.testing.assert_allclose(votes, [[1 / 3, 4 / 9, 2 / 9]])
    collapsed = np.ones((5, 2)) * np.nan
    for temperature in (None, 0.07):
        (votes,) = neighbour_votes(collapsed[:1], collapsed, labels, 3, 2, temperature)
        np.testing.assert_allclose(votes, [[0.2, 0.4, 0.4]])
    (votes,) = neighbour_votes(features[:1], features, labels, 3, 50, None)  # k above their number
    np.testing.assert_allclose(votes, [[0.2, 0.4, 0.4]])
