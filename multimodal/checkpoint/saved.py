"""A checkpoint as a model to use: its settings, what it needs of its input, its parameters."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import jax

from multimodal.checkpoint.adapted import merge
from multimodal.checkpoint.bundle import Checkpoints
from multimodal.checkpoint.locate import locate
from multimodal.config import Config, from_dict
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
        merged = merge(self.checkpoints.restore_params(self.step), self.config.lora)
        if target is None:
            return merged
        return {path: jax.device_put(merged[path], x.sharding) for path, x in target.items()}


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
