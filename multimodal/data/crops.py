"""A box of a picture at another size, decoding no more of a JPEG than the box needs.

Where the box stays large enough a JPEG is decoded at 1/2, 1/4 or 1/8, which its transform gives
almost for nothing. Such a box lies on multiples of that number, so that it is the same part of the
picture at either scale; which box it is depends on the size of the picture, not on its format.
"""

import threading
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

from multimodal.data import images

# Decoded at a fraction, a picture is sharper than its bicubic reduction: some pixels are kept to
# average over.
_MARGIN = 1.25
_KEPT = 1 << 24  # bytes
_memory = threading.local()


class Box(NamedTuple):
    """Part of a picture, in pixels."""

    top: int
    left: int
    height: int
    width: int


def snapped(box: Box, size: int) -> tuple[Box, int]:
    """The box that is taken for `box`, and the fraction 1/n of the picture that is decoded for it:
    the largest n of 1, 2, 4, 8 that leaves both sides a quarter above `size`."""
    short = min(box.height, box.width)
    n = next((n for n in (8, 4, 2) if short // n >= _MARGIN * size), 1)
    return Box(*(x // n * n for x in box)), n


def cut(picture: bytes | np.ndarray, draw: Callable[[int, int], Box], size: int = 0) -> np.ndarray:
    """The box `draw(height, width)` of an encoded or decoded picture, as uint8 [size, size, 3];
    `size` 0: the box's own longer side.

    Raises images.BrokenImage.
    """
    encoded = isinstance(picture, bytes)
    shape = images.jpeg_size(picture) if encoded else picture.shape[:2]
    if shape is None:
        picture, encoded = images.decode(picture), False
        shape = picture.shape[:2]
    box = draw(*shape)
    size = size or max(box.height, box.width)
    box, n = snapped(box, size)
    if encoded:
        sides = (-(-side // n) for side in shape)
        shrinks = min(box.height, box.width) >= size  # which averages what is not smooth
        memory = _scratch("decoded", *sides)
        picture = images.decode(picture, n, smooth=not shrinks, buffer=memory)
        box = Box(*(x // n for x in box))
    top, left, height, width = box
    out = resize(picture[top : top + height, left : left + width], size)
    return out.copy() if encoded and np.may_share_memory(out, picture) else out


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """uint8 [height, width, 3] to [size, size, 3], antialiased and close to Pillow's bicubic.

    Shrinking sides are first brought to exactly twice the size, then averaged in pairs: both are
    several times as fast as a mean over areas of any other size, and together nearer to bicubic.
    Growing sides are cubic.
    """
    longest = max(image.shape[:2])
    if longest > 2.5 * size:  # pairs would leave pixels out: a mean over areas, to the size itself
        height, width = (size if side > 2.5 * size else side for side in image.shape[:2])
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    if image.shape[:2] == (size, size):
        return np.ascontiguousarray(image)
    height, width = (2 * size if side > size else size for side in image.shape[:2])
    # Near its limit cubic interpolation, being sharper, lets through what should be averaged.
    how = cv2.INTER_LINEAR if 1.8 * size < max(image.shape[:2]) else cv2.INTER_CUBIC
    between = _scratch("between", height, width)
    image = cv2.resize(image, (width, height), dst=between, interpolation=how)
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)


def _scratch(name: str, height: int, width: int) -> np.ndarray:
    """Memory for pixels that is used again by this thread: fresh memory costs as much as a resize,
    since the system clears it page by page."""
    size = height * width * 3
    if size > _KEPT:
        return np.empty((height, width, 3), np.uint8)
    kept = getattr(_memory, name, None)
    if kept is None or kept.size < size:
        kept = np.empty(size, np.uint8)
        setattr(_memory, name, kept)
    return kept[:size].reshape(height, width, 3)
