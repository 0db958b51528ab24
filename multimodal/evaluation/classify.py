"""Evaluators that compare with labels: classifiers, zero-shot classification, probes."""

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from multimodal import config
from multimodal.data.sources import in_test
from multimodal.errors import UserError
from multimodal.evaluation.classes import (
    class_embeddings,
    classification,
    zero_shot_accuracy,
)
from multimodal.evaluation.details import Details, class_details
from multimodal.evaluation.embed import Embedder
from multimodal.evaluation.probes import logistic_regression, neighbour_votes
from multimodal.evaluation.prompts import prompt
from multimodal.evaluation.recalls import in_order

log = logging.getLogger(__name__)

Outcome = tuple[dict[str, float], Details]
Label = int | str
_VALIDATION = 0.2  # share of the groups by which C is chosen


class Labelled(NamedTuple):
    """The examples of a data set that have a label."""

    features: np.ndarray  # [examples, embed], or logits [examples, classes]
    labels: list[Label]
    groups: list[Any]  # what must stay on one side of a split
    broken: int

    @property
    def counts(self) -> dict[str, float]:
        return {"examples": float(len(self.labels)), "broken": float(self.broken)}


def accuracy(evaluator: config.Accuracy, embedder: Embedder, data_dir: str) -> Outcome:
    data = _labelled(embedder, evaluator.data, data_dir, "class_logits")
    logits = np.nan_to_num(data.features.astype(np.float64), nan=-np.inf)
    names = evaluator.classes or tuple(str(i) for i in range(logits.shape[1]))
    if len(names) != logits.shape[1]:
        raise UserError(f"evaluators: {len(names)} classes, but the model has {logits.shape[1]}")
    classes, labels = name_labels(data.labels, names, (), evaluator.data.source)
    values, confusion = classification([logits], labels, len(classes))
    return values | data.counts, _details("classification", classes, confusion)


def zero_shot(evaluator: config.ZeroShot, embedder: Embedder, data_dir: str) -> Outcome:
    data = _labelled(embedder, evaluator.data, data_dir)
    classes, labels = name_labels(
        data.labels, evaluator.classes, evaluator.labels, evaluator.data.source
    )
    prompts = [prompt(template, c) for c in classes for template in evaluator.templates]
    embedded = embedder.texts(prompts).reshape(len(classes), len(evaluator.templates), -1)
    if evaluator.ensemble == "mean":
        embedded = class_embeddings(embedded)[:, None]
    values, confusion = zero_shot_accuracy(data.features, embedded, labels)
    return values | data.counts, _details("zero_shot", classes, confusion)


def linear_probe(evaluator: config.LinearProbe, embedder: Embedder, data_dir: str) -> Outcome:
    train, test, names, targets, labels = _parts(evaluator, embedder, data_dir)

    def scores(features: np.ndarray, rows: np.ndarray, c: float) -> np.ndarray:
        seen, own = np.unique(targets[rows], return_inverse=True)
        _at_least_two(seen, evaluator)
        weights, bias = logistic_regression(train.features[rows], own, len(seen), c)
        logits = np.full((len(features), len(names)), -np.inf)
        logits[:, seen] = features @ weights + bias
        return logits

    everything, c = np.arange(len(targets)), evaluator.c[0]
    if len(evaluator.c) > 1:
        held_out = np.array([in_test(f"validation {g}", _VALIDATION) for g in train.groups])
        fitted, checked = np.flatnonzero(~held_out), np.flatnonzero(held_out)
        if not len(fitted) or not len(checked):
            raise UserError("evaluators: too few examples to choose among several c; give one")
        right = [
            classification([scores(train.features[checked], fitted, c)], targets[checked],
                           len(names))[0]["accuracy"]
            for c in sorted(evaluator.c)
        ]  # fmt: skip
        c = sorted(evaluator.c)[int(np.argmax(right))]
    values, confusion = classification([scores(test.features, everything, c)], labels, len(names))
    counts = test.counts | {"train_examples": float(len(targets)), "c": c}
    return values | counts, _details("classification", names, confusion)


def nearest_neighbours(evaluator: config.KNN, embedder: Embedder, data_dir: str) -> Outcome:
    train, test, names, targets, labels = _parts(evaluator, embedder, data_dir)
    _at_least_two(np.unique(targets), evaluator)
    votes = neighbour_votes(
        test.features, train.features, targets, len(names), evaluator.k, evaluator.temperature
    )
    values, confusion = classification(votes, labels, len(names))
    counts = test.counts | {"train_examples": float(len(targets))}
    return values | counts, _details("classification", names, confusion)


def name_labels(
    labels: Sequence[Label],
    classes: Sequence[str],
    values: Sequence[str],
    source: config.Source,
) -> tuple[list[str], np.ndarray]:
    """The names of the classes, and the number of each example's class among them.

    A number i is named `classes[i]`, or the class that stands where `values` has it; a text is a
    name itself, and without `classes` those that occur are all. Raises UserError for a label
    without a name.
    """
    if not classes:
        if unnamed := [label for label in labels if not isinstance(label, str)]:
            raise UserError(
                f"evaluators: label {unnamed[0]} of {source} is a number and needs a name: list "
                "the classes, or take a field of names as the label"
            )
        classes = sorted(set(labels))
    numbered = {str(v): i for i, v in enumerate(values or range(len(classes)))}
    names = {name: i for i, name in enumerate(classes)}
    # Of a text that is both a value and a name, what the settings say comes first.
    texts = names | numbered if values else numbered | names
    numbers = []
    for label in labels:
        number = (texts if isinstance(label, str) else numbered).get(str(label))
        if number is None:
            raise UserError(
                f"evaluators: label {label!r} of {source} has no name among the {len(classes)} "
                f"classes; labels: {', '.join(numbered)[:200]}"
            )
        numbers.append(number)
    return list(classes), np.array(numbers)


def _parts(
    evaluator: config.LinearProbe | config.KNN, embedder: Embedder, data_dir: str
) -> tuple[Labelled, Labelled, list[str], np.ndarray, np.ndarray]:
    """Training and test part, the labels' names, and the numbers of their classes."""
    data, other = evaluator.data, evaluator.train
    if other is None:
        keep = "train" if data.holdout.keep == "test" else "test"
        other = dataclasses.replace(data, holdout=dataclasses.replace(data.holdout, keep=keep))
    train, test = (_unit(_labelled(embedder, part, data_dir)) for part in (other, data))
    different = in_order([*train.labels, *test.labels])
    number = {str(label): i for i, label in enumerate(different)}
    targets, labels = (np.array([number[str(x)] for x in p.labels]) for p in (train, test))
    return train, test, list(number), targets, labels


def _unit(data: Labelled) -> Labelled:
    """Features of unit length, so that settings mean the same for every model; 0 for NaN."""
    x = np.nan_to_num(data.features.astype(np.float64))
    return data._replace(features=x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12))


def _labelled(
    embedder: Embedder, data: config.Data, data_dir: str, output: str = "image"
) -> Labelled:
    label = data.fields["label"]
    by = "key" if data.holdout is None else data.holdout.by
    fields = {name: path for name, path in data.fields.items() if name.startswith("image")}
    pictures = dataclasses.replace(data, fields=fields)
    features, examples, broken = embedder.images(pictures, (label, by), data_dir, output)
    labels = [_label(e[label]) for e in examples]
    kept = [i for i, value in enumerate(labels) if value is not None]
    if len(kept) < len(examples):
        log.warning("left out %d examples without a label", len(examples) - len(kept))
    if not kept:
        raise UserError(f"evaluation: no example of {data.source} has a label {label!r}")
    groups = [examples[i][by] for i in kept]
    broken += len(examples) - len(kept)
    return Labelled(features[kept], [labels[i] for i in kept], groups, broken)


def _label(value: Any) -> Label | None:
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, str):
        value = value.strip()
        return int(value) if value.isdecimal() and str(int(value)) == value else value or None
    return value if isinstance(value, int) else None


def _at_least_two(classes: np.ndarray, evaluator: config.LinearProbe | config.KNN) -> None:
    if len(classes) < 2:
        raise UserError(f"evaluators: {evaluator.kind} needs two classes to train on, not one")


def _details(kind: str, classes: Sequence[str], confusion: np.ndarray | None) -> Details:
    if confusion is None or jax.process_index() > 0:
        return {}
    return class_details(kind, classes, confusion)
