"""A recipe made small: the same signals, optimiser, rules and mesh axes on a model of a few layers
and on drawn scenes, so that any recipe can be stepped in seconds without its data."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from multimodal.config import ArrayRecords, Config, Data, MeshShape, Scenes
from multimodal.data import array_record

DEVICES, BATCH = 4, 16
FEATURES = "features.array_record"
PATCH, GRID, LENGTH, VOCABULARY = 8, 3, 24, 260

# Sizes by the name of the setting, wherever it stands; never made larger than the recipe's own.
LARGEST = {
    "width": 32,
    "depth": 2,
    "mlp": 64,
    "embed": 32,
    "queries": 4,
    "classes": 16,
    "hidden": 64,
    "bottleneck": 16,
    "prototypes": 64,
    "local_views": 2,
    "max_patches": GRID**2,
    "warmup_steps": 0,  # at a rate of 0 a head that begins with zeros hides the first gradient
    "cooldown_steps": 0,
    "accumulate": 2,
    "unlocked": 1,
    "workers": 0,
}
# What a tokenizer of bytes, patches of 8 pixels and these widths ask for.
EXACT = {
    "heads": 4,
    "pooler_heads": 4,
    "patch_size": PATCH,
    "region_size": PATCH,
    "local_size": 2 * PATCH,
    "image_size": PATCH * GRID,
    "length": LENGTH,
    "vocab_size": VOCABULARY,
    "tokenizer": "bytes",
    "bpe_dropout": 0.0,  # bytes have no pairs to merge
    "pad_id": 0,
    "end_id": 2,
    "attention": "xla",  # cuDNN and TPU kernels are not for CPUs
}


def shrink(config: Config, steps: int = 2, learning_rate: float | None = None) -> Config:
    """The recipe at a tiny size for `DEVICES` devices, without evaluators and from nothing, for
    `steps` of each task, at its own learning rate unless another is given."""
    small = _shrink(dataclasses.replace(config, evaluators={}, start=None))
    tasks = {
        name: dataclasses.replace(task, data=scenes(task.data))
        for name, task in small.tasks.items()
    }
    rate = learning_rate or config.optimizer.learning_rate
    return dataclasses.replace(
        small,
        tasks=tasks,
        optimizer=dataclasses.replace(small.optimizer, learning_rate=rate),
        steps=steps * len(tasks),
        batch_size=BATCH,
        mesh=mesh(config.mesh),
    )


def scenes(data: Data) -> Data:
    """Drawn scenes in place of a recipe's own records, or what `write_features` wrote; how they are
    read stays."""
    names = {"image": "image", "text": "captions", "tags": "captions", "label": "shape_label"}
    source = Scenes(
        "scenes", "test_single" if "label" in data.fields else "train", BATCH, PATCH * GRID
    )
    if "image_features" in data.fields:
        source, names = ArrayRecords(FEATURES), {"image_features": "features", "text": "text"}
    fields = {name: names[name] for name in data.fields}
    return dataclasses.replace(data, source=source, fields=fields, where={}, holdout=None)


def write_features(folder: Path) -> None:
    """Vectors with texts that tell them apart, as of a tower that was run before."""
    vectors = np.random.default_rng(0).normal(size=(BATCH, LARGEST["width"])).astype(np.float32)
    records = [{"features": v.tolist(), "text": f"number {i}"} for i, v in enumerate(vectors)]
    array_record.write(str(folder / FEATURES), records)


def mesh(shape: MeshShape) -> MeshShape:
    """The axes that the recipe splits over, on four devices: 4, or 2 x 2 of the last two."""
    split = [axis for axis in ("data", "fsdp", "tensor", "sequence") if getattr(shape, axis) != 1]
    sizes = dict.fromkeys(split[-2:], 2) if len(split) > 1 else {(split or ["data"])[0]: 4}
    return MeshShape(**({"data": 1} | sizes))


def _shrink(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shrink(inner) for key, inner in value.items()}
    if isinstance(value, tuple):
        return tuple(_shrink(inner) for inner in value)
    if not dataclasses.is_dataclass(value):
        return value
    changes = {}
    for field in dataclasses.fields(value):
        name, inner = field.name, getattr(value, field.name)
        if inner is None or dataclasses.is_dataclass(inner):
            changes[name] = _shrink(inner)
        elif name in LARGEST:
            changes[name] = min(inner, LARGEST[name])
        else:
            changes[name] = EXACT.get(name, _shrink(inner))
    return dataclasses.replace(value, **changes)
