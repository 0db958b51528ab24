"""One of several processes that evaluate together: FOLDER; prints the metrics on each mesh."""

import json
import sys

import jax

from multimodal import config
from multimodal.parallel import processes
from tests.evaluation import toy

MESHES = ({"data": 4}, {"tensor": 4})  # rows split between the processes, and held by both


def main(folder: str) -> None:
    processes.join()
    evaluator = config.Retrieval(toy.data(), by="count", batch_size=8)
    model = toy.make_model()
    params = toy.make_params(model)
    results = [toy.run(evaluator, model, params, folder, **mesh) for mesh in MESHES]
    told = [[r.metrics for r in results], [bool(r.details) for r in results]]
    print(json.dumps([jax.process_index(), *told]))


if __name__ == "__main__":
    main(*sys.argv[1:])
