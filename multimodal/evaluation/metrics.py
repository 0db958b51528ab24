"""Retrieval recalls and zero-shot accuracy as pure functions of unit vectors, on the host.

Scores are cosine similarities in float64, block by block, so that all pairs are never held at once.
Equal scores share a rank: a figure is its expected value if ties were broken at random. A model
that has collapsed to one point, or to NaN, so scores exactly the chance level, which is returned
beside each figure under `chance/...`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_TIE = 1e-12  # scores this close are equal: rounding in float64, far below any real difference
_BLOCK = 1 << 21  # scores held at once


def retrieval_recalls(
    images: np.ndarray,  # [images, embed]
    texts: np.ndarray,  # [texts, embed]
    owner: np.ndarray,  # [texts], index of the image that each text belongs to
    ks: Sequence[int] = (1, 5, 10),
    by: Mapping[str, Sequence[Any]] | None = None,
) -> dict[str, float]:
    """`image_to_text_R@k` and `text_to_image_R@k`, as shares of 1, with their chance levels.

    An image counts as a hit if any of its texts is among the first k, a text if its image is.
    `by` gives a name and one value an image: R@1 is also returned over the queries of each value,
    such as `text_to_image_R@1/num_objects=2`, still among all candidates.
    Raises ValueError where an image has no text.
    """
    numbers = np.arange(len(images))
    if len(np.setdiff1d(numbers, owner)):
        raise ValueError("every image needs a text")
    values = {}
    for name, queries in (
        ("image_to_text", (images, numbers, texts, owner)),
        ("text_to_image", (texts, owner, images, numbers)),
    ):
        found, chance = hits(*queries, ks)
        for column, k in enumerate(ks):
            values[f"{name}_R@{k}"] = found[:, column].mean()
            values[f"chance/{name}_R@{k}"] = chance[:, column].mean()
        for key, groups in (by or {}).items() if 1 in ks else ():
            column = list(ks).index(1)
            of_query = np.array([str(g) for g in groups])[queries[1]]
            for group in _in_order(groups):
                rows = of_query == str(group)
                label = f"{name}_R@1/{key}={group}"
                values[label] = found[rows, column].mean()
                values[f"chance/{label}"] = chance[rows, column].mean()
    return {key: float(value) for key, value in values.items()}


def zero_shot_accuracy(
    images: np.ndarray,  # [images, embed]
    classes: np.ndarray,  # [classes, prompts, embed]
    labels: np.ndarray,  # [images]
) -> tuple[dict[str, float], np.ndarray]:
    """`accuracy`, `accuracy_top5` where there are more than 5 classes, and their chance levels;
    and the confusion counts [true class, predicted class]. A class scores what the nearest of its
    prompts does. Tied predictions share their count."""
    count, prompts, embed = classes.shape
    ks = (1, 5) if count > 5 else (1,)
    found = np.zeros((len(images), len(ks)))
    confusion = np.zeros((count, count))
    for rows in _blocks(len(images), count * prompts):
        scores = _scores(images[rows], classes.reshape(-1, embed))
        scores = scores.reshape(-1, count, prompts).max(-1)  # [images, classes]
        own = np.take_along_axis(scores, labels[rows, None], 1)
        better = scores > own + _TIE
        tied = (scores >= own - _TIE) & ~better
        for column, k in enumerate(ks):
            found[rows, column] = _expected(better.sum(1), tied.sum(1), 1, k)
        best = scores >= scores.max(1, keepdims=True) - _TIE
        np.add.at(confusion, labels[rows], best / best.sum(1, keepdims=True))
    values = {}
    for column, name in enumerate(("accuracy", "accuracy_top5")[: len(ks)]):
        values[name] = float(found[:, column].mean())
        values[f"chance/{name}"] = ks[column] / count
    return values, confusion


def class_embeddings(
    templates: np.ndarray,  # [classes, templates, embed], unit vectors
) -> np.ndarray:
    """[classes, embed]: the mean over the templates, normalised (Radford et al. 2021, 3.1.4)."""
    mean = templates.astype(np.float64).mean(1)
    return mean / np.maximum(np.linalg.norm(mean, axis=-1, keepdims=True), 1e-12)


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
    for rows in _blocks(len(queries), len(candidates)):
        scores = _scores(queries[rows], candidates)
        right = query_id[rows, None] == candidate_id[None, :]
        best = np.where(right, scores, -np.inf).max(1, keepdims=True)
        better = scores > best + _TIE
        tied = (scores >= best - _TIE) & ~better
        counts = better.sum(1), tied.sum(1), (tied & right).sum(1)
        for column, k in enumerate(ks):
            found[rows, column] = _expected(*counts, k)
            chance[rows, column] = _expected(0, len(candidates), right.sum(1), k)
    return found, chance


def top(
    queries: np.ndarray,  # [queries, embed]
    candidates: np.ndarray,  # [candidates, embed]
    k: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Indices and scores [queries, k] of the best candidates, the best first."""
    scores = _scores(queries, candidates)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(scores, order, 1)


def _expected(better: Any, tied: Any, right: Any, k: int) -> np.ndarray:
    """Chance of a right one among the first k, if `tied` candidates, `right` of them right, follow
    `better` ones in random order: one minus the chance to draw only wrong ones."""
    room = np.clip(k - np.asarray(better), 0, tied)
    missed = np.ones(np.broadcast_shapes(np.shape(room), np.shape(right)))
    for drawn in range(int(room.max(initial=0))):
        wrong = np.maximum(tied - right - drawn, 0) / np.maximum(tied - drawn, 1)
        missed *= np.where(drawn < room, wrong, 1)
    return 1 - missed


def _scores(queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    scores = queries.astype(np.float64) @ candidates.astype(np.float64).T
    return np.where(np.isnan(scores), -np.inf, scores)


def _blocks(rows: int, columns: int) -> list[slice]:
    size = max(1, _BLOCK // max(columns, 1))
    return [slice(start, start + size) for start in range(0, rows, size)]


def _in_order(groups: Sequence[Any]) -> list[Any]:
    """The different values: numbers by size, then the rest by name."""

    def rank(value: Any) -> tuple[bool, float, str]:
        number = isinstance(value, (int, float))
        return not number, value if number else 0.0, str(value)

    return sorted({str(g): g for g in groups}.values(), key=rank)
