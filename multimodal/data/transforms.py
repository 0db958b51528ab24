"""Augmentations as plain data, `{"op": NAME, option: value}`, and the model's own resize.

Each is a frozen dataclass called as `op(example, rng)`; it reads and replaces `example["image"]`,
uint8 [height, width, 3], and draws from `rng` only. Crops may be given the encoded picture. A new
augmentation is one class and one line in `OPS`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import cv2
import numpy as np
from PIL import Image

from multimodal.data.crops import Box, cut
from multimodal.data.patches import fitting_size
from multimodal.errors import UserError
from multimodal.preprocessing import Preprocessing
from multimodal.schema import from_dict, nearest

Example = dict[str, Any]
Op = Callable[[Example, np.random.Generator], Example]

cv2.setNumThreads(0)  # the pipeline has its own threads and processes


@dataclass(frozen=True)
class RandomResizedCrop:
    """A crop of a random share of the area and aspect ratio (Szegedy et al. 2015), resized.

    `size` 0 stands for the model's image size.
    """

    scale: tuple[float, float] = (0.5, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    size: int = 0

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        return _cut(example, self, rng)

    def box(self, height: int, width: int, rng: np.random.Generator) -> Box:
        """Of a picture of this size; `crops.snapped` says what is taken for it."""
        area = height * width * rng.uniform(*self.scale)
        aspect = math.exp(rng.uniform(math.log(self.ratio[0]), math.log(self.ratio[1])))
        h = min(height, max(1, round(math.sqrt(area / aspect))))
        w = min(width, max(1, round(math.sqrt(area * aspect))))
        return Box(int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w)


@dataclass(frozen=True)
class RandomCrop:
    """The largest square that fits in, at a random place, resized (Radford et al. 2021).

    `size` 0 stands for the model's image size.
    """

    size: int = 0

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        return _cut(example, self, rng)

    def box(self, height: int, width: int, rng: np.random.Generator) -> Box:
        """Of a picture of this size; `crops.snapped` says what is taken for it."""
        side = min(height, width)
        top, left = (int(rng.integers(length - side + 1)) for length in (height, width))
        return Box(top, left, side, side)


@dataclass(frozen=True)
class RandomShift:
    """Moves the picture by up to `share` of its sides; the border pixels fill what is uncovered."""

    share: float = 0.125

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        image = example["image"]
        height, width = image.shape[:2]
        limits = int(height * self.share), int(width * self.share)
        down, right = (int(rng.integers(-limit, limit + 1)) for limit in limits)
        sides = max(down, 0), max(-down, 0), max(right, 0), max(-right, 0)
        wide = cv2.copyMakeBorder(image, *sides, cv2.BORDER_REPLICATE)
        return example | {"image": wide[sides[1] :, sides[3] :][:height, :width]}


@dataclass(frozen=True)
class RandomAffine:
    """Moves the picture by up to `shift` of its sides, zooms about its centre by a factor of
    `zoom`, evenly on a logarithmic scale, and turns it by up to `degrees` either way; the border
    pixels fill what is uncovered. One bilinear resampling does it all."""

    shift: float = 0.1
    zoom: tuple[float, float] = (0.75, 1.33)
    degrees: float = 0.0

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        image = example["image"]
        height, width = image.shape[:2]
        factor = math.exp(rng.uniform(*map(math.log, self.zoom)))
        angle = rng.uniform(-self.degrees, self.degrees)
        right, down = rng.uniform(-self.shift, self.shift, 2) * (width, height)
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, factor)
        matrix[:, 2] += right, down
        warped = cv2.warpAffine(
            image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        return example | {"image": warped}


@dataclass(frozen=True)
class Flip:
    """Mirrors left and right with probability `chance`; not for captions that tell the sides."""

    chance: float = 0.5

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        if rng.random() >= self.chance:
            return example
        return example | {"image": np.ascontiguousarray(example["image"][:, ::-1])}


@dataclass(frozen=True)
class ColorJitter:
    """Brightness, contrast and saturation, each times a factor within 1 +- its option, in turn."""

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    chance: float = 1.0

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        draws = rng.random(4)
        if draws[3] >= self.chance:
            return example
        options = (self.brightness, self.contrast, self.saturation)
        brightness, contrast, saturation = (
            max(0.0, 1 + option * (2 * draw - 1))
            for option, draw in zip(options, draws[:3], strict=True)
        )
        image = example["image"].astype(np.float32) * brightness
        mean = _grey(image).mean()
        image = mean + (image - mean) * contrast
        grey = _grey(image)[..., None]
        image = grey + (image - grey) * saturation
        return example | {"image": np.clip(np.rint(image), 0, 255).astype(np.uint8)}


@dataclass(frozen=True)
class RandomGrayscale:
    """Takes the colour away with probability `chance` (luma of ITU-R BT.601)."""

    chance: float = 0.1

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        if rng.random() >= self.chance:
            return example
        grey = np.rint(_grey(example["image"].astype(np.float32))).astype(np.uint8)
        return example | {"image": np.repeat(grey[..., None], 3, axis=2)}


@dataclass(frozen=True)
class RandomErase:
    """Paints a rectangle of a random share of the area with `fill` (Zhong et al. 2017)."""

    chance: float = 0.25
    scale: tuple[float, float] = (0.02, 0.33)
    ratio: tuple[float, float] = (0.3, 3.3)
    fill: int = 127

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        if rng.random() >= self.chance:
            return example
        image = example["image"].copy()
        height, width = image.shape[:2]
        area = height * width * rng.uniform(*self.scale)
        aspect = math.exp(rng.uniform(math.log(self.ratio[0]), math.log(self.ratio[1])))
        h = min(height, max(1, round(math.sqrt(area / aspect))))
        w = min(width, max(1, round(math.sqrt(area * aspect))))
        top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
        image[top : top + h, left : left + w] = self.fill
        return example | {"image": image}


# These take encoded pictures too, and decode no more of them than they need.
CROPS = RandomResizedCrop | RandomCrop

OPS: dict[str, type] = {
    "random_resized_crop": RandomResizedCrop,
    "random_crop": RandomCrop,
    "random_shift": RandomShift,
    "random_affine": RandomAffine,
    "flip": Flip,
    "color_jitter": ColorJitter,
    "random_grayscale": RandomGrayscale,
    "random_erase": RandomErase,
}


def build(ops: Sequence[dict[str, Any]], image_size: int, where: str = "augment") -> tuple[Op, ...]:
    """The transforms that `ops` describe. Raises UserError for an unknown op or option."""
    built = []
    for i, values in enumerate(ops):
        name = values.get("op")
        if name not in OPS:
            raise UserError(f"{where}[{i}].op: no transform {name!r}{nearest(str(name), OPS)}")
        options = {key: value for key, value in values.items() if key != "op"}
        op = from_dict(OPS[name], options, f"{where}[{i}]")
        built.append(replace(op, size=image_size) if getattr(op, "size", None) == 0 else op)
    return tuple(built)


_PIL = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "area": Image.Resampling.BOX,
}


def fit(image: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """The model's own resize: uint8 [height, width, 3] to [size, size, 3], any aspect ratio; with
    `max_patches` to whole patches of its own aspect ratio.

    Antialiased when shrinking, as Pillow computes it; training and evaluation both end with it, so
    they cannot differ.
    """
    size = preprocessing.image_size
    height, width = image.shape[:2]
    most, how = preprocessing.max_patches, _PIL[preprocessing.interpolation]
    picture = Image.fromarray(image)
    if most is not None:
        h, w = fitting_size(height, width, preprocessing.patch_size, most)
        return image if (h, w) == (height, width) else np.asarray(picture.resize((w, h), how))
    if height == width == size:
        return image
    match preprocessing.resize:
        case "squash":
            return np.asarray(picture.resize((size, size), how))
        case "crop":
            return np.asarray(_crop(picture, size, how))
        case "pad":
            scale = size / max(height, width)
            h, w = max(1, round(height * scale)), max(1, round(width * scale))
            out = np.full((size, size, 3), preprocessing.pad_value, np.uint8)
            top, left = (size - h) // 2, (size - w) // 2
            out[top : top + h, left : left + w] = np.asarray(picture.resize((w, h), how))
            return out


def _crop(picture: Image.Image, size: int, how: Image.Resampling) -> Image.Image:
    """Short side to `size`, then the centre, bit for bit as transformers does it for CLIP. (Where
    the long side has three pixels too many, or seven, ..., torchvision's centre is one further.)"""
    width, height = picture.size
    short = min(width, height)
    # The long side is cut down (not rounded), as torchvision and the CLIP reference do.
    w, h = size * width // short, size * height // short
    left, top = (w - size) // 2, (h - size) // 2
    if max(w, h) <= 16 * size:
        return picture.resize((w, h), how).crop((left, top, left + size, top + size))
    # A picture of 1 x 5000 must not become one of 224 x 1120000 first: compute what stays alone.
    x, y = width / w, height / h
    box = (left * x, top * y, min((left + size) * x, width), min((top + size) * y, height))
    return picture.resize((size, size), how, box)


def _cut(example: Example, crop: CROPS, rng: np.random.Generator) -> Example:
    return example | {"image": cut(example["image"], partial(crop.box, rng=rng), crop.size)}


def _grey(image: np.ndarray) -> np.ndarray:
    return image @ np.array([0.299, 0.587, 0.114], np.float32)
