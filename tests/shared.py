"""Where the files shared between the project's checkouts lie: golden files and small data sets."""

import os
from pathlib import Path

import pytest

_OVERRIDES = {"goldens": "MULTIMODAL_GOLDENS", "data": "MULTIMODAL_DATA"}
_DEFAULT = Path(__file__).resolve().parents[2] / "shared"


def shared_path(name: str) -> Path:
    """Path of `name` ("goldens", "goldens/vit", "data/emoji-train.tar") in the shared folder.

    MULTIMODAL_GOLDENS and MULTIMODAL_DATA replace the folders `goldens` and `data`; by default
    they lie in `../shared` beside the checkout. Where the path does not exist the calling test is
    skipped, and failed when CI=true: in CI an unread golden file must not look like a pass.
    """
    first, *rest = Path(name).parts
    override = os.environ.get(_OVERRIDES.get(first, ""))
    path = Path(override or _DEFAULT / first).joinpath(*rest)
    if not path.exists():
        where = f" (set by {_OVERRIDES[first]})" if override else ""
        message = f"shared file not found: {path}{where}"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return path
