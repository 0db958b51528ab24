"""Features of pictures, computed once: python -m multimodal.embed --workdir=RUN --data=PATH
--out=FILE.array_record [--fields=image=FIELD,text=FIELD] [--split=NAME] [--step=N].

Each record holds `image_features`, what the run's image tower pools before any projection, as the
bytes of float32 numbers, with the picture's `key`, `text` (all its captions) and `label` as far as
the data have them: what `Precomputed` towers are trained on. Pictures are read as in evaluation,
as the checkpoint says; those that cannot be read are left out and counted. Of several processes
each writes a file of its own, FILE-00000-of-00004.array_record.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from flax import nnx
from jax.sharding import Mesh
from tqdm import tqdm

from multimodal import config
from multimodal.command import join, run, workdir_from_flags
from multimodal.data import array_record
from multimodal.data.detect import default_fields, detect
from multimodal.data.pipeline import evaluation_batches
from multimodal.data.record import Record
from multimodal.errors import UserError
from multimodal.evaluate import restore
from multimodal.experiment import Experiment
from multimodal.models.build import Params, nested
from multimodal.parallel import processes
from multimodal.parallel.rules import BATCH, replicated

FLAGS = flags.FLAGS
FIELDS = ("image", "text", "label")


def embed(
    experiment: Experiment, params: Params, data: config.Data, out: Path, batch_size: int
) -> tuple[Path, int, int]:
    """Writes the features of `data`; all processes must call it.

    `batch_size` is rounded up to what the devices divide. Returns this process's file, and how many
    of its examples it holds and how many were left out as broken. Raises UserError for a model
    without an image tower of its own, or data that cannot be read.
    """
    mesh, towers = experiment.mesh, getattr(experiment.config.model, "towers", {})
    if not isinstance(towers.get("image"), config.ImageTower):
        raise UserError(f"a model of kind {experiment.config.model.kind} has no image tower to run")
    part, parts = processes.batch_part(mesh)
    devices = int(np.prod([mesh.shape[axis] for axis in BATCH]))
    rows = -(-batch_size // devices) * devices
    # A label may be a name here, and only a number where a model reads it.
    label = {name: path for name, path in data.fields.items() if name == "label"}
    read = {name: path for name, path in data.fields.items() if name in ("image", "text")}
    broken = 0

    def records() -> Iterator[Record]:
        nonlocal broken
        batches = evaluation_batches(
            dataclasses.replace(data, fields=read),
            experiment.config.preprocessing,
            batch_size=rows,
            process_index=part,
            process_count=parts,
            extra=tuple(label.values()),
            data_dir=experiment.data_dir,
        )
        own = slice(part * rows // parts, (part + 1) * rows // parts)
        ahead = None  # one batch, so that the devices do not wait for the disk
        with (
            batches,
            tqdm(desc="embedding", unit=" images", disable=not processes.is_main()) as bar,
        ):
            for batch in batches:
                broken += len(batch["broken"])
                images = processes.to_global(batch["image"], mesh)
                ahead, done = (batch, _pooled(experiment.model.graph, mesh, params, images)), ahead
                if done:
                    yield from _records(*done, own, label)
                bar.update(int(batch["valid"].sum()))
            if ahead:
                yield from _records(*ahead, own, label)

    if parts > 1:
        out = out.with_name(f"{out.stem}-{part:05d}-of-{parts:05d}{out.suffix}")
    with jax.set_mesh(mesh):
        count = array_record.write(str(out), records())
    return out, count, broken


@partial(jax.jit, static_argnums=(0, 1))
def _pooled(graph: nnx.GraphDef, mesh: Mesh, params: Params, images: Any) -> jax.Array:
    """Float32 [batch, width], whole on every device."""
    features = nnx.merge(graph, nested(params)).towers["image"](images)["pooled"]
    features = features.astype(jnp.float32)
    return jax.lax.with_sharding_constraint(features, replicated(mesh))


def _records(
    batch: Mapping[str, Any], features: jax.Array, own: slice, label: Mapping[str, str]
) -> Iterator[Record]:
    rows = np.asarray(features)[own]
    for slot in np.flatnonzero(batch["valid"]):
        record = {"key": batch["keys"][slot], "image_features": rows[slot].tobytes()}
        if "texts" in batch:
            record["text"] = batch["texts"][slot]
        for name, path in label.items():
            value = batch[path][slot]
            record[name] = value.item() if isinstance(value, np.generic) else value
        yield record


def data_at(path: str, given: str = "", split: str = "") -> config.Data:
    """The records of `path`, or of one of its splits, with the fields that `given`,
    `NAME=FIELD,...`, or their usual names say. Raises UserError when no picture is among them."""
    source = detect(path)
    if split:
        if not hasattr(source, "split"):
            raise UserError(f"--split={split}: {path} ({source.kind}) has no splits")
        source = dataclasses.replace(source, split=split)
    fields = default_fields(source)
    for item in given.split(",") if given else ():
        name, _, field = item.partition("=")
        if name not in FIELDS or not field:
            raise UserError(f"--fields={given}: write NAME=FIELD, NAME being {' or '.join(FIELDS)}")
        fields[name] = field
    if "image" not in fields:
        raise UserError(f"--data={path}: no field of pictures; name it with --fields=image=FIELD")
    return config.Data(source, fields=fields, shuffle=False)


def main(argv: list[str]) -> None:
    join()
    workdir = workdir_from_flags()
    for name in ("data", "out"):
        if not FLAGS[name].value:
            raise UserError(f"--{name} is missing; see the head of multimodal/embed.py")
    out = Path(FLAGS.out).expanduser().absolute()
    if not out.parent.is_dir():
        raise UserError(f"--out={FLAGS.out}: there is no such folder")
    if FLAGS.batch_size < 1:
        raise UserError(f"--batch_size={FLAGS.batch_size}: must be positive")
    data = data_at(FLAGS.data, FLAGS.fields, FLAGS.split)
    experiment, params, step = restore(workdir, FLAGS.step)
    out, count, broken = embed(experiment, params, data, out, FLAGS.batch_size)
    print(f"{out}: {count} records of step {step}, {broken} broken left out")


def define_flags() -> None:
    flags.DEFINE_string("data", "", "Pictures: a tar, Parquet file, table, folder, or pattern.")
    flags.DEFINE_string("out", "", "File to write.")
    flags.DEFINE_string("fields", "", "image=FIELD,text=FIELD,label=FIELD of the records.")
    flags.DEFINE_string("split", "", "Of --data, where it has splits.")
    flags.DEFINE_integer("step", None, "Checkpoint to use; the newest by default.")
    flags.DEFINE_integer("batch_size", 256, "Pictures at a time.")


if __name__ == "__main__":
    define_flags()
    run(main)
