"""Evaluates a run's newest checkpoint: python -m multimodal.evaluate --workdir=DIR [--step=N]
[--evaluator=NAME ...] [--json=FILE].

What the model needs of its input is read from the checkpoint, not from the recipe.
"""

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path

import jax
from absl import flags

from multimodal import experiment as experiments
from multimodal import recipe
from multimodal.checkpoint.bundle import Checkpoints
from multimodal.command import run, workdir_from_flags
from multimodal.config import MeshShape
from multimodal.errors import UserError
from multimodal.evaluation.run import evaluate
from multimodal.experiment import Experiment
from multimodal.models.build import Params
from multimodal.parallel import processes
from multimodal.preprocessing import Preprocessing
from multimodal.report.details import save_details
from multimodal.report.table import results_table
from multimodal.schema import from_dict, nearest

_STEP = flags.DEFINE_integer("step", None, "Checkpoint to evaluate; the newest by default.")
_ONLY = flags.DEFINE_multi_string("evaluator", [], "Evaluators to run; all by default.")
_JSON = flags.DEFINE_string("json", None, "File for the figures.")

TOKENIZER = "tokenizer.json"  # a run folder's own copy of its tokenizer


def run_evaluators(
    experiment: Experiment, params: Params, step: int, workdir: Path, names: Iterable[str]
) -> dict[str, float]:
    """Figures `eval/NAME/...` of the named evaluators; their details go into the run folder."""
    figures = {}
    for name in names:
        result = evaluate(
            experiment.config.evaluators[name],
            model=experiment.model,
            params=params,
            preprocessing=experiment.config.preprocessing,
            mesh=experiment.mesh,
            data_dir=experiment.data_dir,
        )
        if processes.is_main():
            save_details(workdir, name, step, result.details)
        figures |= {f"eval/{name}/{key}": value for key, value in result.metrics.items()}
    return figures


def restore(workdir: Path, step: int | None = None) -> tuple[Experiment, Params, int]:
    """The experiment of a run folder, its parameters (their average where one is kept), the step.

    Raises UserError when the folder holds no whole checkpoint, or not that of `step`.
    """
    if not workdir.is_dir():
        raise UserError(f"no run folder {workdir}")
    checkpoints = Checkpoints(workdir / "checkpoints")
    known = checkpoints.steps()
    if not known or step not in (None, *known):
        wanted = "no whole checkpoint" if not known else f"no checkpoint of step {step}"
        raise UserError(f"{workdir} holds {wanted}; steps: {', '.join(map(str, known)) or 'none'}")
    step = known[-1] if step is None else step
    meta = checkpoints.meta(step)
    config = recipe.finish(recipe.resolve(meta["config"]))
    preprocessing = from_dict(Preprocessing, meta["preprocessing"], "preprocessing")
    if (own := workdir / TOKENIZER).exists():
        preprocessing = dataclasses.replace(preprocessing, tokenizer=str(own))
    # Whatever devices there are now, with the parameters split over them; no step is taken.
    config = dataclasses.replace(
        config,
        preprocessing=preprocessing,
        mesh=MeshShape(data=1, fsdp=-1),
        batch_size=jax.device_count(),
        accumulate=1,
    )
    experiment = experiments.build(config)
    target = experiment.abstract_state.params
    return experiment, checkpoints.restore_params(step, target), step


def main(argv: list[str]) -> None:
    processes.join()
    workdir = workdir_from_flags()
    experiment, params, step = restore(workdir, _STEP.value)
    known = experiment.config.evaluators
    for name in _ONLY.value:
        if name not in known:
            raise UserError(f"--evaluator={name}: no such evaluator{nearest(name, known)}")
    if not known:
        raise UserError(f"{workdir / 'config.json'} names no evaluators")
    with jax.set_mesh(experiment.mesh):
        figures = run_evaluators(experiment, params, step, workdir, _ONLY.value or known)
    if processes.is_main():
        print(f"{experiment.config.name} at step {step}")
        print(results_table(figures))
        if _JSON.value:
            Path(_JSON.value).write_text(json.dumps({"step": step} | figures, indent=2) + "\n")


if __name__ == "__main__":
    run(main)
