"""Classification figures from scores: accuracy, its first five, and the mean recall of a class."""

from collections.abc import Iterable, Iterator

import numpy as np

from multimodal.evaluation.bootstrap import interval, recall_interval
from multimodal.evaluation.ranking import TIE, blocks, expected, similarities

Figures = tuple[dict[str, float], np.ndarray | None]
_LARGEST = 1000  # classes whose confusions are counted


def classification(
    scores: Iterable[np.ndarray],  # blocks [rows, classes] that together are [examples, classes]
    labels: np.ndarray,  # [examples]
    classes: int,
) -> Figures:
    """`accuracy`, `accuracy_top5` where there are more than 5 classes, and
    `mean_per_class_recall`, over the classes that occur; each with its chance level and the `/low`
    and `/high` of its 95 % interval, examples resampled. And the confusion counts [true class,
    predicted class], None for more than 1000 classes. Equal scores share their count.
    """
    ks = (1, 5) if classes > 5 else (1,)
    found = np.zeros((len(labels), len(ks)))
    confusion = np.zeros((classes, classes)) if classes <= _LARGEST else None
    done = 0
    for block in scores:
        rows = slice(done, done + len(block))
        own = np.take_along_axis(block, labels[rows, None], 1)
        better = block > own + TIE
        tied = (block >= own - TIE) & ~better
        for column, k in enumerate(ks):
            found[rows, column] = expected(better.sum(1), tied.sum(1), 1, k)
        if confusion is not None:
            best = block >= block.max(1, keepdims=True) - TIE
            np.add.at(confusion, labels[rows], best / best.sum(1, keepdims=True))
        done = rows.stop
    values: dict[str, float] = {}
    for column, name in enumerate(("accuracy", "accuracy_top5")[: len(ks)]):
        ends = interval(found[:, column], np.ones(len(labels)))
        values |= _figure(name, found[:, column].mean(), ks[column] / classes, ends)
    first, counts = found[:, 0], np.bincount(labels)
    recalls = np.bincount(labels, first)[counts > 0] / counts[counts > 0]
    ends = recall_interval(first, labels)
    values |= _figure("mean_per_class_recall", recalls.mean(), 1 / classes, ends)
    return values, confusion


def zero_shot_accuracy(
    images: np.ndarray,  # [images, embed]
    classes: np.ndarray,  # [classes, prompts, embed]
    labels: np.ndarray,  # [images]
) -> Figures:
    """`classification` where a class scores what the nearest of its prompts does."""
    count, prompts, embed = classes.shape

    def scores() -> Iterator[np.ndarray]:
        for rows in blocks(len(images), count * prompts):
            block = similarities(images[rows], classes.reshape(-1, embed))
            yield block.reshape(-1, count, prompts).max(-1)

    return classification(scores(), labels, count)


def class_embeddings(
    templates: np.ndarray,  # [classes, templates, embed], unit vectors
) -> np.ndarray:
    """[classes, embed]: the mean over the templates, normalised (Radford et al. 2021, 3.1.4)."""
    mean = templates.astype(np.float64).mean(1)
    return mean / np.maximum(np.linalg.norm(mean, axis=-1, keepdims=True), 1e-12)


def _figure(name: str, value: float, chance: float, ends: tuple[float, float]) -> dict[str, float]:
    figure = {name: float(value), f"chance/{name}": float(chance)}
    return figure | {f"{name}/low": ends[0], f"{name}/high": ends[1]}
