"""Toy runs that tests share: the recipe `configs/toy.py`, and batches of random examples."""

import dataclasses
from pathlib import Path

import jax
import numpy as np

from multimodal import config, experiment, recipe
from multimodal.parallel.processes import to_global

CONFIGS = Path(__file__).parents[1] / "configs"


def toy_config(family: str = "dual_encoder", **changes) -> config.Config:
    """The toy recipe of a family; `changes` replace top-level settings."""
    values = recipe.finish(recipe.load(str(CONFIGS / "toy.py"), f"family={family}"))
    return dataclasses.replace(values, **changes)


def replace(tree, **changes):
    """A copy of nested dataclasses and dicts with dotted settings replaced: a__b=1 sets a.b."""
    for path, value in changes.items():
        name, _, rest = path.partition("__")
        inner = tree[name] if isinstance(tree, dict) else getattr(tree, name)
        value = replace(inner, **{rest: value}) if rest else value
        tree = (
            tree | {name: value}
            if isinstance(tree, dict)
            else dataclasses.replace(tree, **{name: value})
        )
    return tree


def build(settings: config.Config, devices: int = 1, **mesh: int) -> experiment.Experiment:
    """The run on the first `devices` simulated devices, with this mesh."""
    shape = config.MeshShape(**({"data": devices} | mesh))
    settings = dataclasses.replace(settings, mesh=shape)
    return experiment.build(settings, jax.devices()[:devices])


def host_batch(settings: config.Config, seed: int = 0, broken: int = 0) -> dict[str, np.ndarray]:
    """Random pictures and texts of random length; the last `broken` slots are not valid."""
    rng, p, size = np.random.default_rng(seed), settings.preprocessing, settings.batch_size
    text = rng.integers(4, 260, (size, p.length)).astype(np.int32)
    ends = rng.integers(2, p.length, size)
    text[:, 0] = 1
    text[np.arange(size), ends] = 2
    text[np.arange(p.length) > ends[:, None]] = 0
    valid = np.arange(size) < size - broken
    image = rng.integers(0, 256, (size, p.image_size, p.image_size, 3), np.uint8)
    return {"image": image, "text": text, "valid": valid}


def run_steps(run: experiment.Experiment, batches: list[dict], task: str | None = None):
    """The state and the figures after one step on each batch."""
    task = task or next(iter(run.tasks))
    with jax.set_mesh(run.mesh):
        state = run.initialise()
        for batch in batches:
            state, figures = run.tasks[task].step(state, to_global(batch, run.mesh))
    return jax.device_get(state), {name: float(value) for name, value in figures.items()}
