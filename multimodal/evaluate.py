"""Evaluates a run's newest checkpoint: python -m multimodal.evaluate --workdir=DIR [--step=N]
[--evaluator=NAME ...] [--json=FILE], by the run's own evaluators, or on one's own data:
--task=retrieval|zero_shot|linear_probe|knn --data=PATH, see docs/evaluation.md.

What the model needs of its input is read from the checkpoint, not from the recipe.
"""

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path

import jax
from absl import flags

from multimodal import experiment as experiments
from multimodal.checkpoint.saved import open_saved
from multimodal.checks import check
from multimodal.command import join, run, workdir_from_flags
from multimodal.config import Evaluator, MeshShape
from multimodal.errors import UserError
from multimodal.evaluation.own_data import TASKS, evaluator_for
from multimodal.evaluation.run import evaluate
from multimodal.experiment import Experiment
from multimodal.models.build import Params
from multimodal.parallel import processes
from multimodal.report.details import save_details
from multimodal.report.table import results_table
from multimodal.schema import nearest

FLAGS = flags.FLAGS
OWN_DATA = {  # flags that --task reads
    "data": "A tar, Parquet file, table, folder, or pattern of files.",
    "split": "Of --data, where it has splits.",
    "fields": "image=FIELD, text=FIELD or label=FIELD of the records.",
    "where": "FIELD=VALUE|VALUE of the records to use.",
    "classes": "JSON: a list of names, or a table from label to name.",
    "templates": "Prompts with {} for the name: one a line, or a JSON list.",
    "train_data": "What a probe is trained on.",
    "holdout": "FIELD:SHARE[:SEED] of --data to test on.",
    "option": "NAME=VALUE of the task's settings.",
}


def run_evaluators(
    experiment: Experiment, params: Params, step: int, workdir: Path | None, names: Iterable[str]
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
        if workdir is not None and processes.is_main():
            save_details(workdir, name, step, result.details)
        figures |= {f"eval/{name}/{key}": value for key, value in result.metrics.items()}
    return figures


def restore(workdir: Path, step: int | None = None) -> tuple[Experiment, Params, int]:
    """The experiment of a run folder, its parameters (their average where one is kept), the step.
    What a run adapted (`config.lora`) is merged: model and parameters are plain ones.

    Raises UserError when the folder holds no whole checkpoint, or not that of `step`.
    """
    saved = open_saved(workdir, step)
    check(saved.config)
    config = dataclasses.replace(
        saved.config,
        preprocessing=saved.preprocessing,
        lora=None,
        # A rule may name what was merged.
        optimizer=dataclasses.replace(saved.config.optimizer, rules=()),
        tasks={},  # nor is a teacher needed any more
        # Whatever devices there are now, with the parameters split over them; no step is taken.
        mesh=MeshShape(data=1, fsdp=-1),
        batch_size=jax.device_count(),
        accumulate=1,
    )
    experiment = experiments.build(config)
    return experiment, saved.params(experiment.abstract_state.params), saved.step


def main(argv: list[str]) -> None:
    join()
    workdir = workdir_from_flags()
    if FLAGS.json and not Path(FLAGS.json).absolute().parent.is_dir():
        raise UserError(f"--json={FLAGS.json}: there is no such folder")
    own = _own_evaluator()
    experiment, params, step = restore(workdir, FLAGS.step)
    if own:
        config = dataclasses.replace(experiment.config, evaluators={FLAGS.task: own})
        check(config)
        experiment = dataclasses.replace(experiment, config=config)
    known = experiment.config.evaluators
    if not known:
        raise UserError(
            f"{workdir / 'config.json'} names no evaluators; give --task and --data to evaluate on "
            "data of your own"
        )
    for name in FLAGS.evaluator:
        if name not in known:
            raise UserError(f"--evaluator={name}: no such evaluator{nearest(name, known)}")
    page = None if own else workdir  # which shows the run's own evaluators
    with jax.set_mesh(experiment.mesh):
        figures = run_evaluators(experiment, params, step, page, FLAGS.evaluator or known)
    if processes.is_main():
        print(f"{experiment.config.name} at step {step}")
        print(results_table(figures))
        if FLAGS.json:
            Path(FLAGS.json).write_text(json.dumps({"step": step} | figures, indent=2) + "\n")


def _own_evaluator() -> Evaluator | None:
    """What the flags ask for on a user's own data, if they do."""
    given = {name: FLAGS[name].value for name in OWN_DATA}
    if not FLAGS.task:
        for name, value in given.items():
            if value:
                raise UserError(f"--{name} needs --task, one of {', '.join(TASKS)}")
        return None
    if FLAGS.evaluator:
        raise UserError("--evaluator names one of the run's own; leave it out with --task")
    return evaluator_for(FLAGS.task, **given)


def define_flags() -> None:
    """Only where this is the command: the trainer, which evaluates too, does not take them."""
    flags.DEFINE_integer("step", None, "Checkpoint to evaluate; the newest by default.")
    flags.DEFINE_multi_string("evaluator", [], "Evaluators to run; all by default.")
    flags.DEFINE_string("json", None, "File for the figures.")
    flags.DEFINE_string("task", "", f"What to do with --data: {', '.join(TASKS)}.")
    for name, told in OWN_DATA.items():
        several = name in ("fields", "where", "option")
        define = flags.DEFINE_multi_string if several else flags.DEFINE_string
        define(name, [] if several else "", told)


if __name__ == "__main__":
    define_flags()
    run(main)
