"""Reads one golden set: reference inputs, weights, outputs and gradients of a small model.

The folder is MULTIMODAL_GOLDENS, by default ../shared/goldens beside the repository.
"""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

_BESIDE = Path(__file__).resolve().parents[2].parent / "shared" / "goldens"


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
    root = Path(os.environ.get("MULTIMODAL_GOLDENS") or _BESIDE)
    if not root.is_dir():
        reason = f"no golden files at {root}; set MULTIMODAL_GOLDENS to their folder"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    folder = root / name
    tensors = {
        key: load_file(folder / f"{key}.safetensors")
        for key in ("weights", "inputs", "outputs", "grads")
        if (folder / f"{key}.safetensors").exists()
    }
    empty = {"weights": {}, "inputs": {}, "outputs": {}, "grads": {}}
    return Golden(json.loads((folder / "config.json").read_text()), **(empty | tensors))
