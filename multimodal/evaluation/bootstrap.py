"""95 % intervals of shares by resampling examples (Efron 1979), the percentiles of 1000 resamples.

Examples that count alike are interchangeable, so a resample is drawn as how many there are of each
kind: a multinomial, which costs the same for a hundred examples and for a million, and does not
depend on their order.
"""

from collections.abc import Callable

import numpy as np

RESAMPLES = 1000
SEED = 0
_HELD = 1 << 22  # numbers of a block of resamples held at once

Ends = tuple[float, float]


def interval(
    hits: np.ndarray,  # [units] or [units, strata]
    counts: np.ndarray,  # the same
) -> Ends:
    """The 2.5th and 97.5th percentile of the mean over the strata of sum(hits) / sum(counts).

    A unit, such as an image with all its captions, is drawn as a whole. A stratum, such as a
    language, that a resample leaves empty is left out of its mean.
    """
    strata = 1 if hits.ndim == 1 else hits.shape[1]
    rows = np.concatenate([hits.reshape(-1, strata), counts.reshape(-1, strata)], 1)
    kinds, times = np.unique(rows.round(9), axis=0, return_counts=True)

    def mean(drawn: np.ndarray) -> np.ndarray:
        sums = drawn @ kinds
        return _mean_share(sums[:, :strata], sums[:, strata:])

    return _percentiles(mean, times, 2 * strata)


def recall_interval(
    hits: np.ndarray,  # [examples]
    classes: np.ndarray,  # [examples]
) -> Ends:
    """The same of the mean over the classes of the share of hits among a class's examples."""
    pairs = np.stack([classes, hits.round(9)], 1)
    kinds, times = np.unique(pairs, axis=0, return_counts=True)  # by class
    starts = np.unique(kinds[:, 0], return_index=True)[1]

    def mean(drawn: np.ndarray) -> np.ndarray:
        found = np.add.reduceat(drawn * kinds[:, 1], starts, axis=1)
        return _mean_share(found, np.add.reduceat(drawn, starts, axis=1))

    return _percentiles(mean, times, 2 * len(starts))


def _percentiles(
    statistic: Callable[[np.ndarray], np.ndarray], times: np.ndarray, width: int
) -> Ends:
    """Ends of the interval of `statistic`, [resamples, kinds] to [resamples], where there are
    `times` examples of each kind."""
    units = int(times.sum())
    rng = np.random.default_rng(SEED)
    block = max(1, _HELD // (len(times) + width))
    values = [
        statistic(
            rng.multinomial(units, times / units, min(block, RESAMPLES - first)).astype(np.float64)
        )
        for first in range(0, RESAMPLES, block)
    ]
    low, high = np.quantile(np.concatenate(values), (0.025, 0.975))
    return float(low), float(high)


def _mean_share(found: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """[resamples, strata] twice to [resamples]."""
    shares = found / np.maximum(asked, 1e-9)
    return shares.sum(1) / np.maximum((asked > 0).sum(1), 1)
