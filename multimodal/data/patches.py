"""Pictures that keep their aspect ratio, as rows of patches (NaFlex, Tschannen et al. 2025)."""

import math
from collections.abc import Sequence

import numpy as np
from einops import rearrange

from multimodal.preprocessing import Preprocessing


def fitting_size(height: int, width: int, patch: int, most: int) -> tuple[int, int]:
    """Height and width, multiples of `patch`, of the largest version of a picture that has at most
    `most` patches; each side is scaled alike and rounded up.

    By bisection to 1e-5 and up to 100 times as large, as SigLIP 2's own preprocessing does it, so
    that its models see what they were trained on.
    """

    def cells(scale: float, side: int) -> int:
        return max(1, math.ceil(side * scale / patch))

    low, high = 1e-6, 100.0
    while high - low >= 1e-5:
        middle = (low + high) / 2
        if cells(middle, height) * cells(middle, width) <= most:
            low = middle
        else:
            high = middle
    return cells(low, height) * patch, cells(low, width) * patch


def cut(image: np.ndarray, patch: int) -> np.ndarray:
    """[height, width, 3] to [patches, patch * patch * 3], row by row, inside a patch as well."""
    return rearrange(image, "(h p) (w q) c -> (h w) (p q c)", p=patch, q=patch)


def stack(
    pictures: Sequence[np.ndarray | None], preprocessing: Preprocessing
) -> np.ndarray | dict[str, np.ndarray]:
    """What `transforms.fit` made of pictures as one batch; None is a slot of zeros.

    uint8 [batch, size, size, 3]; with `max_patches` {"patches": uint8 [batch, max_patches,
    patch * patch * 3], "grid": int32 [batch, 2], rows and columns of those that are no padding}.
    """
    p, count = preprocessing, len(pictures)
    here = [(slot, picture) for slot, picture in enumerate(pictures) if picture is not None]
    if p.max_patches is None:
        batch = np.zeros((count, p.image_size, p.image_size, 3), np.uint8)
        for slot, picture in here:
            batch[slot] = picture
        return batch
    patches = np.zeros((count, p.max_patches, 3 * p.patch_size**2), np.uint8)
    grid = np.zeros((count, 2), np.int32)
    for slot, picture in here:
        rows = cut(picture, p.patch_size)
        patches[slot, : len(rows)] = rows
        grid[slot] = picture.shape[0] // p.patch_size, picture.shape[1] // p.patch_size
    return {"patches": patches, "grid": grid}
