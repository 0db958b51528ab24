"""Runs one evaluator over its data: numbers for the log, details for the page."""

from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from multimodal import config
from multimodal.errors import UserError
from multimodal.evaluation import metrics
from multimodal.evaluation.details import Details, retrieval_details, zero_shot_details
from multimodal.evaluation.embed import Embedder
from multimodal.models.build import Model, Params
from multimodal.preprocessing import Preprocessing


class Result(NamedTuple):
    """`metrics` by name, without the evaluator's own; `details`: see `evaluation/details.py`."""

    metrics: dict[str, float]
    details: Details


def evaluate(
    evaluator: config.Evaluator,
    *,
    model: Model,
    params: Params,
    preprocessing: Preprocessing,
    mesh: Mesh,
    data_dir: str = "",
) -> Result:
    """Metrics over every readable example once, whatever the batch size, the number of devices and
    the number of processes. All processes must call it, and all get the metrics; the details are
    made on the first process and empty elsewhere.

    Raises UserError where the data do not hold what the evaluator needs.
    """
    embedder = Embedder(model, params, preprocessing, mesh, evaluator.batch_size)
    if isinstance(evaluator, config.ZeroShot):
        return _zero_shot(evaluator, embedder, data_dir)
    return _retrieval(evaluator, embedder, data_dir)


def _retrieval(evaluator: config.Retrieval, embedder: Embedder, data_dir: str) -> Result:
    data, by = evaluator.data, evaluator.by
    images, examples, broken = embedder.images(data, (by,) if by else (), data_dir)
    captions = [e["texts"][:1] if evaluator.captions == "first" else e["texts"] for e in examples]
    texts = [text for own in captions for text in own]
    owner = np.repeat(np.arange(len(examples)), [len(own) for own in captions])
    groups = [e[by] for e in examples] if by else []
    if by and all(value is None for value in groups):
        raise UserError(f"evaluators: by={by!r} is not a field of {data.source}")
    embedded = embedder.texts(texts)
    values = metrics.retrieval_recalls(images, embedded, owner, by={by: groups} if by else None)
    details: Details = {}
    if jax.process_index() == 0:
        positions = [e["position"] for e in examples]
        details = retrieval_details(
            images,
            embedded,
            texts,
            owner,
            positions,
            data,
            embedder.preprocessing,
            data_dir,
        )
    counts = {"examples": float(len(examples)), "captions": float(len(texts))}
    return Result(values | counts | {"broken": float(broken)}, details)


def _zero_shot(evaluator: config.ZeroShot, embedder: Embedder, data_dir: str) -> Result:
    classes, templates = evaluator.classes, evaluator.templates
    images, examples, broken = embedder.images(evaluator.data, (), data_dir)
    labels = np.array([e["label"] for e in examples])
    wrong = labels[(labels < 0) | (labels >= len(classes))]
    if len(wrong):
        raise UserError(
            f"evaluators: label {wrong[0]} of {evaluator.data.source} has no name among the "
            f"{len(classes)} classes; labels count from 0"
        )
    prompts = [template.replace("{}", name) for name in classes for template in templates]
    embedded = embedder.texts(prompts).reshape(len(classes), len(templates), -1)
    if evaluator.ensemble == "mean":
        embedded = metrics.class_embeddings(embedded)[:, None]
    values, confusion = metrics.zero_shot_accuracy(images, embedded, labels)
    counts = {"examples": float(len(examples)), "broken": float(broken)}
    details = zero_shot_details(classes, confusion) if jax.process_index() == 0 else {}
    return Result(values | counts, details)
