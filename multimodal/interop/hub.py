"""Checkpoints of the Hugging Face hub, fetched into its own cache."""

import re
from pathlib import Path

from multimodal.errors import UserError

_SETTINGS = ("*.json", "*.txt", "*.model")
# Tried in this order until one is there, so that nothing is fetched twice.
_WEIGHTS = (
    ("model.safetensors", "model-*.safetensors"),
    ("open_clip_model.safetensors", "open_clip_model-*.safetensors"),
    ("pytorch_model.bin", "pytorch_model-*.bin"),
    ("open_clip_pytorch_model.bin",),
)


def is_hub_name(source: str) -> bool:
    """Is it OWNER/NAME, and nothing that lies here?"""
    return bool(re.fullmatch(r"[\w.-]+/[\w.-]+", source)) and not Path(source).exists()


def fetch(name: str) -> Path:
    """The folder of a model of the hub, from the cache or the network. Raises UserError."""
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(name, allow_patterns=list(_SETTINGS)))
        for patterns in _WEIGHTS:
            snapshot_download(name, allow_patterns=list(patterns))  # what the cache lacks of them
            if any(next(folder.glob(pattern), None) for pattern in patterns):
                return folder
    except Exception as error:  # of the network, of the hub, of the cache
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise UserError(
            f"{name} is no folder or file here, and cannot be fetched from the hub: {reason}; name "
            "a folder that holds a copy of it"
        ) from error
    return folder  # without weights, which is told by who opens it
