"""Against full sorts and simulated random tie-breaking."""

import numpy as np
import pytest

from multimodal.evaluation import ranking


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def test_ties_give_the_mean_over_random_orders(rng):
    """Scores on a coarse grid: many ties, each broken at random 4000 times."""
    queries, candidates = np.eye(5), rng.integers(0, 3, (12, 5)).astype(float)
    query_id, candidate_id = np.arange(5), np.arange(12) % 5
    found, _ = ranking.hits(queries, query_id, candidates, candidate_id, (1, 3))
    simulated = np.zeros((5, 2))
    for _ in range(4000):
        order = np.lexsort((rng.random((5, 12)), -(queries @ candidates.T)), axis=1)
        right = candidate_id[order] == query_id[:, None]
        simulated += np.stack([right[:, :k].any(1) for k in (1, 3)], 1)
    np.testing.assert_allclose(found, simulated / 4000, atol=0.035)


def test_top_returns_the_best_first(rng):
    images, texts = rng.normal(size=(40, 16)), rng.normal(size=(123, 16))
    order, scores = ranking.top(images, texts, 5)
    np.testing.assert_array_equal(order, np.argsort(-(images @ texts.T), 1)[:, :5])
    assert (np.diff(scores) <= 0).all()
