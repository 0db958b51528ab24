"""Reads one golden set: reference inputs, weights, outputs and gradients of a small model.

The folder is MULTIMODAL_GOLDENS, by default ../shared/goldens beside the repository.
"""

import dataclasses
import json

import numpy as np
from safetensors.numpy import load_file

from tests.shared import shared_path


@dataclasses.dataclass(frozen=True)
class Golden:
    """Everything in a set's folder; a file that the set does not have is empty here."""

    config: dict
    weights: dict[str, np.ndarray]
    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]
    grads: dict[str, np.ndarray]


def load_golden(name: str) -> Golden:
    """The set `name`. With no folder of goldens at all, skips the test, or fails it under CI."""
    folder = shared_path("goldens") / name
    tensors = {
        key: load_file(folder / f"{key}.safetensors")
        for key in ("weights", "inputs", "outputs", "grads")
        if (folder / f"{key}.safetensors").exists()
    }
    empty = {"weights": {}, "inputs": {}, "outputs": {}, "grads": {}}
    return Golden(json.loads((folder / "config.json").read_text()), **(empty | tensors))
