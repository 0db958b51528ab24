"""Other people's checkpoints in and out:
python -m multimodal.convert import SOURCE --workdir=DIR [--tokenizer=FILE]
python -m multimodal.convert export --workdir=DIR --to=hf|open_clip --out=FOLDER [--step=N]

SOURCE is a folder, a file, or OWNER/NAME of the Hugging Face hub; see docs/interop.md.
"""

import dataclasses
import json
import sys
from pathlib import Path

import jax
import numpy as np
from absl import flags

from multimodal import experiment as experiments
from multimodal.checkpoint.bundle import Checkpoints
from multimodal.checkpoint.folder import steps_in
from multimodal.checkpoint.saved import open_saved
from multimodal.checks import check
from multimodal.command import join, run, workdir_from_flags
from multimodal.config import Config, MeshShape, parts, to_dict
from multimodal.data.tokenizers import Tokenizer, load_tokenizer, tokenizer_of
from multimodal.errors import UserError
from multimodal.interop.comparison import compare, missing_packages
from multimodal.interop.convert import Origin, origins
from multimodal.interop.export import TARGETS, export_model
from multimodal.interop.hub import fetch, is_hub_name
from multimodal.interop.mapping import mapping_table
from multimodal.interop.source import Source, open_source
from multimodal.interop.usage import how_to_load
from multimodal.interop.vocabulary import tokenizer_at
from multimodal.parallel import processes
from multimodal.report.model_card import model_card
from multimodal.schema import nearest

FLAGS = flags.FLAGS


def import_checkpoint(
    source: Path, workdir: Path, tokenizer: str | None = None, name: str | None = None
) -> None:
    """Makes the run folder `workdir`, at step 0, of a folder or file of other people's; `tokenizer`
    is for a source that has none, `name` the run's where it is not the source's own. Raises
    UserError where it cannot be read as it is meant."""
    if (workdir / "checkpoints").is_dir() and steps_in(workdir / "checkpoints"):
        raise UserError(f"{workdir} holds a run already; choose another --workdir")
    opened = open_source(source)
    experiment, config, found = _fitted(opened, workdir, name or source.stem, tokenizer)
    if processes.is_main():
        print(mapping_table(opened.layout, found))
    params = {
        path: jax.make_array_from_callback(leaf.shape, leaf.sharding, found[path].read)
        for path, leaf in experiment.abstract_state.params.items()
    }
    files = dict([experiment.tokenizer.file] if experiment.tokenizer.file else [])
    meta = experiment.meta({}) | {"config": to_dict(config)}
    checkpoints = Checkpoints(workdir / "checkpoints", config.checkpoints)
    whole = experiment.shardings.step
    step = jax.make_array_from_callback((), whole, lambda _: np.zeros((), np.int32))
    checkpoints.save(0, {"params": params, "step": step}, meta, force=True, files=files, copy=False)
    checkpoints.close()
    if processes.is_main():
        (workdir / "config.json").write_text(json.dumps(to_dict(config), indent=2) + "\n")
        for name, content in files.items():
            (workdir / name).write_bytes(content)
        print(f"run folder: {workdir}")


def _export() -> None:
    """Makes a folder that other libraries load, of a run's newest checkpoint."""
    join()
    workdir, to = workdir_from_flags(), FLAGS.to
    if to not in TARGETS:
        raise UserError(f"--to={to}: no such library{nearest(to, TARGETS)}")
    if not FLAGS.out:
        raise UserError("--out=FOLDER is missing; it names the new folder")
    out = Path(FLAGS.out).expanduser().absolute()
    saved = open_saved(workdir, FLAGS.step)
    model, preprocessing = saved.config.model, saved.preprocessing
    params = saved.params()
    if not processes.is_main():  # all take part in reading, one writes
        return
    classes = _class_names(saved.config)
    exported = export_model(model, preprocessing, params, out, to=to, classes=classes)
    card = model_card(
        saved.config, saved.step, workdir, TARGETS[to], how_to_load(exported.layout, preprocessing)
    )
    (out / "README.md").write_text(card, encoding="utf-8")
    print(f"{out}: {exported}")
    if missing := missing_packages(to):
        print(f"not compared with {TARGETS[to]}: {', '.join(missing)} not installed")
        return
    for name, difference in compare(exported, preprocessing, out).items():
        print(f"largest difference on random input, {name}: {difference:.2g}")


def _class_names(config: Config) -> tuple[str, ...]:
    """Names of a classifier's classes, where an evaluator of the run has them."""
    found = (getattr(e, "classes", ()) for e in config.evaluators.values())
    return next((n for n in found if len(n) == getattr(config.model, "classes", None)), ())


def _fitted(
    opened: Source, workdir: Path, name: str, given: str | None
) -> tuple[experiments.Experiment, Config, dict[str, Origin]]:
    """The run as it is built on these devices and as it is kept, and where its parameters are."""
    tokenizer = load_tokenizer("bytes")
    if any(hasattr(part, "vocab_size") for _, part in parts(opened.model)):
        tokenizer = _tokenizer(opened, given)
    file = str(workdir / tokenizer.file[0]) if tokenizer.file else "bytes"
    preprocessing = dataclasses.replace(opened.preprocessing, tokenizer=file)
    config = Config(name, opened.model, {}, preprocessing)
    check(config)
    # Parameters are split over all devices, and each process reads its own.
    here = dataclasses.replace(
        config, mesh=MeshShape(data=1, fsdp=-1), batch_size=jax.device_count()
    )
    experiment = experiments.build(here, tokenizer=tokenizer)
    return experiment, config, origins(opened.layout, opened.tensors, experiment.model)


def _tokenizer(opened: Source, given: str | None) -> Tokenizer:
    """That which the user has given, or that which came along."""
    pad_id = opened.preprocessing.pad_id
    if given == "bytes":
        return load_tokenizer(given, pad_id)
    file = tokenizer_at(Path(given).expanduser()) if given else opened.tokenizer
    if file is None:
        raise UserError("the source has no tokenizer that is read here; name one by --tokenizer")
    return tokenizer_of(*file, pad_id)


def _import(source: str) -> None:
    workdir = workdir_from_flags()
    join()
    path = fetch(source) if is_hub_name(source) else Path(source).expanduser().absolute()
    import_checkpoint(path, workdir, FLAGS.tokenizer, Path(source).name)


_COMMANDS = {"import": _import, "export": _export}


def main(command: str, arguments: list[str]) -> None:
    if command not in _COMMANDS:
        raise UserError(f"convert {command or '?'}: no such command{nearest(command, _COMMANDS)}")
    wanted = 1 if command == "import" else 0
    if len(arguments) != wanted:
        usage = "one SOURCE, a folder, a file or a name on the hub" if wanted else "flags alone"
        told = " ".join(arguments) or "nothing"
        raise UserError(f"convert {command} takes {usage}, but was given {told}")
    _COMMANDS[command](*arguments)


def _take_words(argv: list[str]) -> list[str]:
    """Takes off `argv` what stands before the first flag: the command and its arguments."""
    words = []
    while argv[1:] and not argv[1].startswith("-"):
        words.append(argv.pop(1))
    return words


def define_flags() -> None:
    """Only where this is the command: others have flags of the same names."""
    told = "Of a SOURCE that has none: a tokenizer.json, a .model, or bytes."
    flags.DEFINE_string("tokenizer", None, told)
    flags.DEFINE_string("to", "hf", f"Who is to load the export: {' or '.join(TARGETS)}.")
    flags.DEFINE_string("out", "", "New folder for the export.")
    flags.DEFINE_integer("step", None, "Checkpoint to export; the newest by default.")


if __name__ == "__main__":
    define_flags()
    words = _take_words(sys.argv)
    run(lambda argv: main("".join(words[:1]), words[1:]))
