"""A checkpoint as a model to use: its settings, what it needs of its input, its parameters."""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax

from multimodal.checkpoint.adapted import PREFIX, added, merge
from multimodal.checkpoint.bundle import Checkpoints
from multimodal.checkpoint.locate import locate
from multimodal.config import Config, Lora, from_dict
from multimodal.parallel.rules import replicated
from multimodal.preprocessing import Preprocessing


class Saved(NamedTuple):
    """One step of a run folder. `preprocessing` names the tokenizer's file that came along."""

    checkpoints: Checkpoints
    step: int
    config: Config
    preprocessing: Preprocessing

    def params(self, target: Any = None) -> Any:
        """Parameters by path, their moving average where one is kept; see `restore_params`. What
        was trained as low-rank updates is merged."""
        if self.config.lora is None:
            return self.checkpoints.restore_params(self.step, target)
        if target is None:
            return merge(self.checkpoints.restore_params(self.step), self.config.lora)
        return self._merged(target, self.config.lora)

    def _merged(self, target: dict[str, jax.ShapeDtypeStruct], lora: Lora) -> dict[str, jax.Array]:
        """Kernels split as `target` says, one after the other; only A and B are whole anywhere."""
        mesh = next(iter(target.values())).sharding.mesh
        updates = {
            path: jax.ShapeDtypeStruct(shape, dtype, sharding=replicated(mesh))
            for name, (shape, dtype) in self.checkpoints.tensors(self.step).items()
            if (path := name.partition("/")[2]).startswith(PREFIX)
        }
        params = self.checkpoints.restore_params(self.step, target | updates)
        for path, x in target.items():
            if f"{PREFIX}{path}/a" in updates:
                a, b = (params.pop(f"{PREFIX}{path}/{name}") for name in "ab")
                add = jax.jit(partial(added, settings=lora), out_shardings=x.sharding)
                params[path] = add(params[path], a, b)
        return params


def open_saved(path: Path, step: int | None = None) -> Saved:
    """Of a run folder or one checkpoint's own folder; no tensor is read yet. Raises UserError."""
    checkpoints, step = locate(path, step)
    meta = checkpoints.meta(step)
    preprocessing = from_dict(Preprocessing, meta["preprocessing"], "saved preprocessing")
    if own := meta["tokenizer"]["file"]:
        own = str(checkpoints.file(step, own))
        preprocessing = dataclasses.replace(preprocessing, tokenizer=own)
    config = from_dict(Config, meta["config"], "saved config")
    return Saved(checkpoints, step, config, preprocessing)
