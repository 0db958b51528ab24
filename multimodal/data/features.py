"""Features computed beforehand (`multimodal.embed`), as records hold them."""

from typing import Any

import numpy as np

from multimodal.data.record import BrokenRecord, Source, look_up
from multimodal.errors import UserError


def vector(value: Any, width: int = 0) -> np.ndarray:
    """Features computed beforehand: a list of numbers, or little-endian float32 bytes."""
    is_bytes = isinstance(value, bytes)
    numbers = np.frombuffer(value, "<f4") if is_bytes else np.asarray(value, np.float32)
    if numbers.ndim != 1 or (width and len(numbers) != width):
        raise ValueError(f"image_features have shape {numbers.shape}, not {(width or 'width',)}")
    return numbers


def width_of(source: Source, fields: dict[str, str]) -> int:
    """That of the first readable record; 0 where the fields name no features."""
    for i in range(min(len(source), 16) if "image_features" in fields else 0):
        try:
            return len(vector(look_up(source[i], fields["image_features"])))
        except (BrokenRecord, KeyError, ValueError, TypeError):
            continue
    if "image_features" in fields:
        raise UserError("data.fields.image_features: none of the first records has a vector there")
    return 0
