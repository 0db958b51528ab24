"""Trains what a recipe describes: python -m multimodal.train --config=FILE[:key=value,...]
--workdir=DIR [--config.a.b=value ...]. FILE is a recipe or the config.json of an earlier run.
"""

import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
from tqdm import tqdm

from multimodal import experiment as experiments
from multimodal.checkpoint.bundle import Checkpoints
from multimodal.command import config_from_flags, join, run, workdir_from_flags
from multimodal.config import Config, from_dict, to_dict
from multimodal.data.feed import Feed
from multimodal.data.tokenizers import describe_tokenizer
from multimodal.errors import UserError
from multimodal.evaluate import run_evaluators
from multimodal.experiment import Experiment
from multimodal.parallel import processes
from multimodal.parallel.compilation import compiling
from multimodal.planning.expected import expected
from multimodal.recipe import first_change
from multimodal.report.details import describe, save_facts
from multimodal.report.history import read_history
from multimodal.report.page import write_report
from multimodal.report.table import is_share, results_table
from multimodal.training.metrics import MetricWriter, truncate_after
from multimodal.training.state import TrainState
from multimodal.training.tasks import task_at
from multimodal.training.watch import BrokenRecords, Meter

log = logging.getLogger("multimodal")


def train(config: Config, workdir: Path, devices: list | None = None) -> dict[str, float]:
    """Runs or resumes the run of `workdir` to its last step, on `devices` (default: all); returns
    the final evaluation."""
    experiment = experiments.build(config, devices)
    with jax.set_mesh(experiment.mesh):
        return _train(experiment, workdir)


def _train(experiment: Experiment, workdir: Path) -> dict[str, float]:
    config, main = experiment.config, processes.is_main()
    checkpoints = Checkpoints(workdir / "checkpoints", config.checkpoints)
    first, positions = 0, dict.fromkeys(experiment.tasks, 0)
    if (latest := checkpoints.latest()) is not None:
        meta = checkpoints.meta(latest)
        _check_unchanged(experiment, meta, workdir)
        first, positions = latest, meta["positions"]
    # What can be wrong with the data and with the start is found before anything is compiled.
    beginning = experiment.beginning() if latest is None else None
    experiment.check_evaluators()
    streams = {name: experiment.batches(name, positions[name]) for name in experiment.tasks}
    missed = [n for n in _due(config, first) if first and not _is_recorded(workdir, n, first)]
    files = [experiment.tokenizer.file] if experiment.tokenizer.file else []
    if main:
        (workdir / "config.json").write_text(json.dumps(to_dict(config), indent=2) + "\n")
        (workdir / "placement.txt").write_text(experiment.placement() + "\n")
        for name, content in files:
            (workdir / name).write_bytes(content)
        save_facts(workdir, describe(experiment.parameter_count))
        truncate_after(workdir / "metrics.jsonl", first)
        log.info("%s\n%s", experiment.placement(), _summary(experiment))
    writer = MetricWriter(workdir, enabled=main)

    # The newest whole checkpoint, or a new state; either way born sharded.
    if latest is not None:
        state = checkpoints.restore(latest, experiment.abstract_state)
        log.info("resumed from step %d of %s", first, workdir)
    else:
        state = experiment.initialise()
        state = beginning.load(state) if beginning else state

    weights = {name: task.weight for name, task in experiment.tasks.items()}
    broken = BrokenRecords(workdir, {n: t.data.max_broken for n, t in experiment.tasks.items()})
    meter = Meter(config.batch_size, experiment.mesh.devices)
    profiler = _Profiler(workdir, first, config.steps) if config.profile else None
    planned = expected(experiment)
    compiled: dict[str, float] = {}
    bar = tqdm(
        total=config.steps, initial=first, desc=config.name, unit="step", disable=not main,
        mininterval=1.0, dynamic_ncols=True,
    )  # fmt: skip
    results: dict[str, float] = {}
    if missed:  # killed after this step was saved, before it was evaluated
        results = _evaluate(experiment, state, missed, workdir)
        writer.write(first, results)
    figures: dict[str, Any] = {}
    feed = Feed(streams, experiment.mesh)
    feed.ask(task_at(first, config.seed, weights))
    for step in range(first, config.steps):
        name = task_at(step, config.seed, weights)
        batch, slots = feed.take(figures, meter.waiting())
        broken.note(name, slots)
        before = figures
        with compiling() as took:
            task = experiment.tasks[name]
            state, figures = task.step_at(step)(state, task.taught(batch))
        if took:
            bar.clear()
            compiled |= _compiled(took, name, step + 1, len(weights))
        jax.block_until_ready(before)  # two steps in flight, no more: batches take memory
        meter.stepped(experiment.model_flops(name, step))
        if step + 1 < config.steps:  # drawn and sent while this step runs
            feed.ask(task_at(step + 1, config.seed, weights))
        positions[name] += 1
        bar.update()
        done = step + 1
        last = done == config.steps
        if profiler:
            profiler.after(done, state)
        if done % config.log_every == 0 or done == first + 1 or last:
            figures = _named(figures, name, len(weights)) | meter.read(done, state.step)
            figures |= {"data/broken": broken.check()} | planned | compiled
            writer.write(done, figures)
            compiled = {}
            waited = f"{figures['train/input_wait']:.0%}"
            bar.set_postfix(loss=f"{figures['train/loss']:.3f}", input_wait=waited)
        # Positions count the steps taken, not the batch that is drawn ahead: they suit the state.
        if last or checkpoints.should_save(done):
            meta = experiment.meta(positions)
            checkpoints.save(done, state, meta, force=last, files=dict(files))
        if due := _due(config, done):
            with meter.paused():
                results = _evaluate(experiment, state, due, workdir)
            writer.write(done, results)
    bar.close()
    feed.close()
    checkpoints.close()
    writer.close()
    if first >= config.steps:
        log.info("nothing left to train: %s is at step %d", workdir, first)
        results = results or _evaluate(experiment, state, config.evaluators, workdir)
    if main:
        page = write_report(workdir)
        if results:
            print(results_table({k: v for k, v in results.items() if is_share(k)}))
        if skipped := int(figures.get("data/broken", 0)):
            print(f"broken examples left out: {skipped}, listed in {workdir}/broken-*.jsonl")
        print(f"run folder: {workdir}\nreport: {page}")
    return results


def _check_unchanged(experiment: Experiment, meta: dict[str, Any], workdir: Path) -> None:
    """A run goes on as what it began; see `recipe.first_change` for what may change."""
    change = first_change(from_dict(Config, meta["config"], "saved config"), experiment.config)
    if meta["tokenizer"] != describe_tokenizer(experiment.tokenizer):
        file = experiment.config.preprocessing.tokenizer
        change = change or f"the tokenizer {file} has other contents than it had"
    if change:
        raise UserError(
            f"{workdir} holds a run with other settings: {change}; go on with its own "
            "config.json, or choose another --workdir"
        )


def _due(config: Config, step: int) -> list[str]:
    """The evaluators whose turn is after `step`: in their cadence, and all at the end."""
    return [n for n, e in config.evaluators.items() if step % e.every == 0 or step == config.steps]


def _is_recorded(workdir: Path, evaluator: str, step: int) -> bool:
    history = read_history(workdir).items()
    return any(n.startswith(f"eval/{evaluator}/") and step in dict(series) for n, series in history)


def _evaluate(
    experiment: Experiment, state: TrainState, names: Iterable[str], workdir: Path
) -> dict[str, float]:
    """Evaluators on the averaged parameters, or the parameters where no average is kept."""
    params = state.params if state.ema is None else state.ema
    return run_evaluators(experiment, params, int(state.step), workdir, names)


def _named(figures: dict, task: str, tasks: int) -> dict[str, float]:
    """`train/NAME`; with several tasks, what only one of them has is `train/TASK/NAME`."""
    own = "train/" if tasks == 1 else f"train/{task}/"
    named = {own + name: float(value) for name, value in figures.items()}
    shared = ("loss", "gradient_norm", "learning_rate", "valid")
    return named | {f"train/{name}": float(figures[name]) for name in shared}


def _compiled(took: dict[str, float], task: str, step: int, tasks: int) -> dict[str, float]:
    """What compiling a step took, said once and named as its other figures."""
    how = "read from disk" if took["compile_cached"] else "compiled"
    log.info("step %d (%s): %s in %.1f s", step, task, how, took["compile_seconds"])
    own = "train/" if tasks == 1 else f"train/{task}/"
    return {own + name: value for name, value in took.items()}


def _summary(experiment: Experiment) -> str:
    config, mesh = experiment.config, experiment.mesh
    device = mesh.devices.flat[0].device_kind
    shape = ", ".join(f"{axis}={size}" for axis, size in mesh.shape.items())
    of_all, count = experiment.parameter_count, experiment.trained_count
    parameters = f"{of_all:,} parameters"
    if count < of_all:
        parameters += f", {count:,} of them ({count / of_all:.1%}) trained"
    return (
        f"{config.name}: {parameters}, {mesh.size} x {device} "
        f"({shape}), {config.steps} steps of {config.batch_size} examples"
    )


class _Profiler:
    """Traces steps 10 to 15 after the start, or the last five, into `workdir/profile`."""

    def __init__(self, workdir: Path, first: int, steps: int):
        self.folder, self.stop = workdir / "profile", min(first + 15, steps)
        self.start = max(first + 1, self.stop - 5)  # the first step compiles
        if self.start >= self.stop:
            log.warning("no profile: it needs two steps, and %d is left", steps - first)

    def after(self, step: int, state: TrainState) -> None:
        if step == self.start < self.stop:
            jax.block_until_ready(state.step)
            jax.profiler.start_trace(str(self.folder))
        elif self.start < step == self.stop:
            jax.block_until_ready(state.step)
            jax.profiler.stop_trace()
            log.info("profile of steps %d to %d in %s", self.start, self.stop, self.folder)


def main(argv: list[str]) -> None:
    config = config_from_flags()
    join()
    try:
        train(config, workdir_from_flags())
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        raise UserError(f"{error.strerror}: {error.filename or workdir_from_flags()}") from error


if __name__ == "__main__":
    run(main)
