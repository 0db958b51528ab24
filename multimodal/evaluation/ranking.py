"""Who comes first: ranks by cosine similarity, on the host.

Scores are float64, block by block, so that all pairs are never held at once. Equal scores share a
rank: a figure is its expected value if ties were broken at random. A model that has collapsed to
one point, or to NaN, so scores exactly the chance level.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

TIE = 1e-12  # scores this close are equal: rounding in float64, far below any real difference
_BLOCK = 1 << 21  # scores held at once


def hits(
    queries: np.ndarray,  # [queries, embed]
    query_id: np.ndarray,  # [queries]
    candidates: np.ndarray,  # [candidates, embed]
    candidate_id: np.ndarray,  # [candidates]
    ks: Sequence[int],
) -> tuple[np.ndarray, np.ndarray]:
    """Is a candidate with the query's own id among the first k? [queries, ks], and at chance."""
    found = np.zeros((len(queries), len(ks)))
    chance = np.zeros_like(found)
    for rows in blocks(len(queries), len(candidates)):
        scores = similarities(queries[rows], candidates)
        right = query_id[rows, None] == candidate_id[None, :]
        best = np.where(right, scores, -np.inf).max(1, keepdims=True)
        better = scores > best + TIE
        tied = (scores >= best - TIE) & ~better
        counts = better.sum(1), tied.sum(1), (tied & right).sum(1)
        for column, k in enumerate(ks):
            found[rows, column] = expected(*counts, k)
            chance[rows, column] = expected(0, len(candidates), right.sum(1), k)
    return found, chance


def top(
    queries: np.ndarray,  # [queries, embed]
    candidates: np.ndarray,  # [candidates, embed]
    k: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Indices and scores [queries, k] of the best candidates, the best first."""
    scores = similarities(queries, candidates)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(scores, order, 1)


def expected(better: Any, tied: Any, right: Any, k: int) -> np.ndarray:
    """Chance of a right one among the first k, if `tied` candidates, `right` of them right, follow
    `better` ones in random order: one minus the chance to draw only wrong ones."""
    room = np.clip(k - np.asarray(better), 0, tied)
    missed = np.ones(np.broadcast_shapes(np.shape(room), np.shape(right)))
    for drawn in range(int(room.max(initial=0))):
        wrong = np.maximum(tied - right - drawn, 0) / np.maximum(tied - drawn, 1)
        missed *= np.where(drawn < room, wrong, 1)
    return 1 - missed


def similarities(queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """[queries, candidates]; what is not a number comes last."""
    scores = queries.astype(np.float64) @ candidates.astype(np.float64).T
    return np.where(np.isnan(scores), -np.inf, scores)


def blocks(rows: int, columns: int) -> list[slice]:
    size = max(1, _BLOCK // max(columns, 1))
    return [slice(start, start + size) for start in range(0, rows, size)]
