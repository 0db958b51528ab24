"""One evaluator on one model: its metrics for the log, details for the page."""

from typing import NamedTuple

from jax.sharding import Mesh

from multimodal import config
from multimodal.evaluation.classify import accuracy, linear_probe, nearest_neighbours, zero_shot
from multimodal.evaluation.details import Details
from multimodal.evaluation.embed import Embedder
from multimodal.evaluation.retrieve import retrieval
from multimodal.models.build import Model, Params
from multimodal.preprocessing import Preprocessing

EVALUATORS = {
    config.Retrieval: retrieval,
    config.ZeroShot: zero_shot,
    config.Accuracy: accuracy,
    config.LinearProbe: linear_probe,
    config.KNN: nearest_neighbours,
}


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
    embedder = Embedder(model, model.plain(params), preprocessing, mesh, evaluator.batch_size)
    return Result(*EVALUATORS[type(evaluator)](evaluator, embedder, data_dir))
