"""Against a loop over the same draws, the binomial distribution and resampling by index."""

import numpy as np
import pytest
from scipy.stats import binom

from multimodal.evaluation import bootstrap
from multimodal.evaluation.bootstrap import interval, recall_interval


def test_a_loop_over_the_same_draws_gives_the_same_interval(monkeypatch):
    """Three kinds of images, told apart by hits of 0, 1 or 2 of their captions."""
    hits, counts = np.array([0, 2, 1, 0, 2, 2, 0, 1.0]), np.array([2, 2, 2, 2, 2, 2, 2, 2])
    monkeypatch.setattr(bootstrap, "_HELD", 1000)  # several blocks
    draws = np.random.default_rng(bootstrap.SEED).multinomial(8, [3 / 8, 2 / 8, 3 / 8], 1000)
    means = []
    for zeros, ones, twos in draws:
        resample = [0] * zeros + [1] * ones + [2] * twos
        means.append(sum(resample) / (2 * len(resample)))
    assert interval(hits, counts) == pytest.approx(tuple(np.quantile(means, (0.025, 0.975))))


@pytest.mark.parametrize("share", [0.03, 0.5, 0.9])
def test_shares_of_hits_have_binomial_quantiles(share, monkeypatch):
    monkeypatch.setattr(bootstrap, "RESAMPLES", 20000)
    hits = np.arange(400) < 400 * share
    wanted = binom.ppf((0.025, 0.975), 400, share) / 400
    np.testing.assert_allclose(interval(hits, np.ones(400)), wanted, atol=1 / 400 + 1e-12)


def test_strata_count_alike_and_an_empty_one_is_left_out(monkeypatch):
    """Two units of the second stratum: a seventh of the resamples of 10 hold none of it."""
    monkeypatch.setattr(bootstrap, "RESAMPLES", 8000)
    rng = np.random.default_rng(2)
    right, stratum = np.array([1, 0, 1, 1, 0, 1, 0, 1, 1, 0.0]), np.array([0] * 8 + [1] * 2)
    counts = np.eye(2)[stratum]
    means = []
    for drawn in rng.integers(0, 10, (8000, 10)):
        present = np.unique(stratum[drawn])
        means.append(np.mean([right[drawn][stratum[drawn] == s].mean() for s in present]))
    wanted = np.quantile(means, (0.025, 0.975))
    np.testing.assert_allclose(recall_interval(right, stratum), wanted, atol=0.03)
    np.testing.assert_allclose(interval(right[:, None] * counts, counts), wanted, atol=0.03)


def test_order_does_not_matter():
    rng = np.random.default_rng(0)
    hits, counts = rng.random(50).round(1), rng.integers(1, 4, 50)
    order = rng.permutation(50)
    assert interval(hits, counts) == interval(hits[order], counts[order])
    classes = rng.integers(0, 4, 50)
    assert recall_interval(hits, classes) == recall_interval(hits[order], classes[order])


def test_one_kind_of_unit_has_no_width():
    assert interval(np.ones(30), np.ones(30)) == (1.0, 1.0)
