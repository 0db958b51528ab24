"""95 % intervals of shares by resampling examples (Efron 1979), the percentiles of 1000 resamples.

Examples that count alike are interchangeable, so a resample is drawn as how many there are of each
kind: a multinomial, which costs the same for a hundred examples and for a million, and does not
depend on their order.
"""

import numpy as np

RESAMPLES = 1000
SEED = 0
_HELD = 1 << 22  # numbers of a block of resamples held at once


def interval(
    hits: np.ndarray,  # [units] or [units, strata]
    counts: np.ndarray,  # the same
    times: np.ndarray | None = None,  # [units]
) -> tuple[float, float]:
    """The 2.5th and 97.5th percentile of the mean over the strata of sum(hits) / sum(counts).

    A unit, such as an image with all its captions, is drawn as a whole; row i stands for `times[i]`
    of them, by default for one. A stratum, such as a class, that a resample leaves empty is left
    out of its mean.
    """
    strata = 1 if hits.ndim == 1 else hits.shape[1]
    rows = np.concatenate([hits.reshape(-1, strata), counts.reshape(-1, strata)], 1)
    times = np.ones(len(rows), np.int64) if times is None else times
    kinds, which = np.unique(rows.round(9), axis=0, return_inverse=True)
    times = np.bincount(which.ravel(), times)
    units = int(times.sum())
    rng = np.random.default_rng(SEED)
    means: list[np.ndarray] = []
    block = max(1, _HELD // (len(kinds) + 2 * strata))
    for first in range(0, RESAMPLES, block):
        size = min(block, RESAMPLES - first)
        drawn = rng.multinomial(units, times / units, size).astype(np.float64) @ kinds
        found, asked = drawn[:, :strata], drawn[:, strata:]
        shares = found / np.maximum(asked, 1e-9)
        means.append(shares.sum(1) / np.maximum((asked > 0).sum(1), 1))
    low, high = np.quantile(np.concatenate(means), (0.025, 0.975))
    return float(low), float(high)
