"""Safetensors on disk as transformers names them: one file, or several and an index."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

LARGEST = 5 * 10**9  # bytes of a file


def save_weights(
    folder: Path, tensors: dict[str, np.ndarray], name: str = "model", largest: int = LARGEST
) -> list[Path]:
    """Writes NAME.safetensors; above `largest` bytes NAME-00001-of-00003.safetensors, ... and
    NAME.safetensors.index.json, which says where each tensor is. Returns the files of tensors."""
    groups: list[dict[str, np.ndarray]] = [{}]
    size = 0
    for key, tensor in tensors.items():
        if size + tensor.nbytes > largest and groups[-1]:
            groups.append({})
            size = 0
        groups[-1][key] = tensor
        size += tensor.nbytes
    count = len(groups)
    names = [f"{name}-{i:05d}-of-{count:05d}.safetensors" for i in range(1, count + 1)]
    if count == 1:
        names = [f"{name}.safetensors"]
    for file, group in zip(names, groups, strict=True):
        path = folder / file
        path.touch()
        mode = path.stat().st_mode  # others may read it as they may its neighbours
        save_file(group, path, metadata={"format": "pt"})
        path.chmod(mode)
    if count > 1:
        index = {
            "metadata": {"total_size": sum(x.nbytes for x in tensors.values())},
            "weight_map": {
                key: file for file, group in zip(names, groups, strict=True) for key in group
            },
        }
        (folder / f"{name}.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    return [folder / file for file in names]
