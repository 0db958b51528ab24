"""Evaluates the line between a fine-tuned run and what it began with (WiSE-FT):
python -m multimodal.interpolate --workdir=RUN [--start=RUN] [--alphas=0,0.1,...,1]
[--evaluator=NAME ...] [--json=FILE] [--svg=FILE], by the run's own evaluators; or, with one alpha
and --out=DIR, makes a run folder of the model there. With alpha 1 that is the run itself, its
low-rank updates merged.
"""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
from absl import flags

from multimodal.checkpoint.bundle import Checkpoints
from multimodal.checkpoint.folder import steps_in
from multimodal.checkpoint.saved import open_saved
from multimodal.command import join, run, workdir_from_flags
from multimodal.config import to_dict
from multimodal.data.tokenizers import describe_tokenizer
from multimodal.errors import UserError
from multimodal.evaluate import restore, run_evaluators
from multimodal.experiment import Experiment
from multimodal.finetune.agreement import Meaning, disagreements
from multimodal.finetune.interpolation import check_same, curve, interpolate
from multimodal.models.build import Params
from multimodal.parallel import processes
from multimodal.report.details import save_facts
from multimodal.report.table import is_share, results_table
from multimodal.schema import nearest

FLAGS = flags.FLAGS


def main(argv: list[str]) -> None:
    join()
    workdir, alphas = workdir_from_flags(), _alphas()
    _check_flags(alphas)
    saved = open_saved(workdir)
    began = saved.config.start
    if not FLAGS.start and began is None:
        raise UserError(f"{workdir} began with no checkpoint; name the other end by --start=RUN")
    other, step = (FLAGS.start, None) if FLAGS.start else (began.checkpoint, began.step)
    names, known = FLAGS.evaluator or list(saved.config.evaluators), saved.config.evaluators
    if not names and not FLAGS.out:
        raise UserError(f"{workdir / 'config.json'} names no evaluators")
    for name in names:
        if name not in known:
            raise UserError(f"--evaluator={name}: no such evaluator{nearest(name, known)}")
    start, original, _ = restore(Path(other), step)
    end, fine_tuned, last = restore(workdir)
    check_same(original, fine_tuned, (str(other), str(workdir)))
    _check_meaning(start, end, str(other), str(workdir))
    if FLAGS.out:
        with jax.set_mesh(end.mesh):
            mixed = interpolate(original, fine_tuned, alphas[0])
        told = f"interpolated by {alphas[0]:g} from {other} to {workdir}"
        _save(end, workdir, mixed, last, told)
        return
    rows = []
    for alpha in alphas:
        with jax.set_mesh(end.mesh):
            mixed = interpolate(original, fine_tuned, alpha)
            figures = run_evaluators(end, mixed, last, None, names)
        rows.append({"alpha": alpha} | figures)
        if processes.is_main():
            print(f"alpha {alpha:g}\n{results_table(figures)}", flush=True)
    if processes.is_main():
        if FLAGS.json:
            Path(FLAGS.json).write_text(json.dumps(rows, indent=2) + "\n")
        if FLAGS.svg:
            # The first share that each evaluator tells is the one that it is for.
            first = [next(n for n in rows[0] if n.startswith(f"eval/{name}/") and is_share(n))
                     for name in names]  # fmt: skip
            drawn = {name.removeprefix("eval/"): [row[name] for row in rows] for name in first}
            Path(FLAGS.svg).write_text(curve(alphas, drawn) + "\n")


def _alphas() -> list[float]:
    try:
        alphas = [float(alpha) for alpha in FLAGS.alphas.split(",")]
    except ValueError:
        raise UserError(f"--alphas={FLAGS.alphas}: numbers with commas between them") from None
    if bad := [alpha for alpha in alphas if not 0 <= alpha <= 1]:
        raise UserError(f"--alphas: {bad[0]:g} is not from 0 to 1")
    return alphas


def _check_flags(alphas: list[float]) -> None:
    for name in ("json", "svg"):
        file = FLAGS[name].value
        if file and not Path(file).absolute().parent.is_dir():
            raise UserError(f"--{name}={file}: there is no such folder")
    if FLAGS.out and len(alphas) != 1:
        raise UserError(f"--out={FLAGS.out} is for one model; give one of --alphas")
    folder = Path(FLAGS.out, "checkpoints")
    if FLAGS.out and folder.is_dir() and steps_in(folder):
        raise UserError(f"--out={FLAGS.out} holds a run already; choose another folder")


def _check_meaning(start: Experiment, end: Experiment, *told: str) -> None:
    """Both ends mean the same by their input and their parameters."""
    now, then = (
        Meaning(e.config.model, e.config.preprocessing, describe_tokenizer(e.tokenizer))
        for e in (end, start)
    )
    if found := disagreements(now, then, {path: path for path in end.model.shapes()}):
        one = found[0]
        raise UserError(
            f"{one.where}={one.now!r} in {told[1]} but {one.then!r} in {told[0]}; only models "
            "of one meaning are mixed"
        )


def _save(experiment: Experiment, workdir: Path, params: Params, step: int, told: str) -> None:
    """A run folder of a model: what the run in `workdir` is, at its last step; `told` is of what it
    was made, for pages and cards."""
    config = dataclasses.replace(open_saved(workdir).config, start=None)
    if config.lora is not None:  # rules may name what is merged
        optimizer = dataclasses.replace(config.optimizer, rules=())
        config = dataclasses.replace(config, lora=None, optimizer=optimizer)
    out = Path(FLAGS.out)
    checkpoints = Checkpoints(out / "checkpoints", config.checkpoints)
    files = dict([experiment.tokenizer.file] if experiment.tokenizer.file else [])
    meta = experiment.meta({}) | {"config": to_dict(config)}
    count = jax.device_put(jnp.asarray(step, jnp.int32), experiment.shardings.step)
    checkpoints.save(step, {"params": params, "step": count}, meta, force=True, files=files)
    checkpoints.close()
    if processes.is_main():
        for name, content in files.items():
            (out / name).write_bytes(content)
        (out / "config.json").write_text(json.dumps(to_dict(config), indent=2) + "\n")
        save_facts(out, {"interpolated": told})
        print(f"run folder: {out}")


def define_flags() -> None:
    flags.DEFINE_string("start", "", "Run at alpha 0; by default what --workdir began with.")
    flags.DEFINE_string(
        "alphas", ",".join(f"{i / 10:g}" for i in range(11)), "How far from the start, 0 to 1."
    )
    flags.DEFINE_multi_string("evaluator", [], "Evaluators to run; all by default.")
    flags.DEFINE_string("json", "", "File for the figures.")
    flags.DEFINE_string("svg", "", "File for a picture of the curve.")
    flags.DEFINE_string("out", "", "Folder of a run to make of the model at one alpha.")


if __name__ == "__main__":
    define_flags()
    run(main)
