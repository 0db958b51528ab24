"""Scenes to pixels: coloured shapes on a light plain background, antialiased.

Everything is drawn at four times the size with sub-pixel corners and shrunk by area. Positions are
fractions of the picture, x to the right and y downwards.
"""

from typing import NamedTuple

import cv2
import numpy as np

from multimodal.data.scenes.world import COLOURS, SHAPES, Object, Scene, column, row

_SCALE = 4  # supersampling
_SHIFT = 4  # cv2 fixed-point bits: corners are exact to 1/16 of a drawn pixel

RGB = {
    "red": (214, 28, 32),
    "orange": (250, 132, 12),
    "yellow": (240, 212, 10),
    "green": (24, 140, 50),
    "cyan": (20, 200, 214),
    "blue": (36, 62, 210),
    "pink": (248, 112, 190),
    "black": (22, 22, 22),
}
_PALETTE = np.array([RGB[name] for name in COLOURS], np.float64)

# Width of an object by size, as a fraction of the picture: alone, and in company.
ALONE = (0.42, 0.62, 0.84)
TOGETHER = (0.30, 0.38, 0.46)
_SIZE_JITTER = 0.03
_PLACE_JITTER = 0.012


def _angles(count: int, start: float) -> np.ndarray:
    return start + 2 * np.pi * np.arange(count) / count


def _polygon(angles: np.ndarray, radius: float | np.ndarray = 1.0) -> np.ndarray:
    return np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=1)


def _cross(arm: float = 0.34) -> np.ndarray:
    a = arm
    return np.array(
        [(-a, -1), (a, -1), (a, -a), (1, -a), (1, a), (a, a)]
        + [(a, 1), (-a, 1), (-a, a), (-1, a), (-1, -a), (-a, -a)]
    )


def _heart(count: int = 40) -> np.ndarray:
    t = _angles(count, 0.0)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return np.stack([x, y], axis=1)


def _unit(outline: np.ndarray) -> np.ndarray:
    """Moved and scaled so that the bounding box is centred and its longer side is 1."""
    low, high = outline.min(axis=0), outline.max(axis=0)
    return (outline - (low + high) / 2) / (high - low).max()


_ROUND = _polygon(_angles(48, 0.0))
_STAR = _polygon(_angles(10, -np.pi / 2), np.where(np.arange(10) % 2 == 0, 1.0, 0.42))
# Outlines, [corners, xy] each; the ring has a second one, its hole (fillPoly is even-odd).
_OUTLINES: dict[str, list[np.ndarray]] = {
    "circle": [_unit(_ROUND)],
    "square": [_unit(np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * 0.94)],
    "triangle": [_unit(np.array([(0, -1), (1, 0.85), (-1, 0.85)]))],
    "star": [_unit(_STAR)],
    "cross": [_unit(_cross())],
    "diamond": [_unit(np.array([(0, -1), (0.82, 0), (0, 1), (-0.82, 0)]))],
    "ring": [_unit(_ROUND), 0.56 * _unit(_ROUND)],
    "heart": [_unit(_heart())],
}
_BY_SHAPE = [_OUTLINES[name] for name in SHAPES]


class Placed(NamedTuple):
    """Where and how large one object is drawn (fractions of the picture) and in which colour."""

    shape: int
    x: float
    y: float
    width: float
    rgb: tuple[float, float, float]

    def box(self) -> tuple[float, float, float, float]:
        """x1, y1, x2, y2 of the exact outline."""
        outline = _BY_SHAPE[self.shape][0]
        (x1, y1), (x2, y2) = outline.min(axis=0), outline.max(axis=0)
        return (
            self.x + self.width * float(x1),
            self.y + self.width * float(y1),
            self.x + self.width * float(x2),
            self.y + self.width * float(y2),
        )


def shaded(colour: int, rng: np.random.Generator) -> tuple[float, float, float]:
    """The colour with a touch of randomness, far less than the colours differ by."""
    return tuple(np.clip(_PALETTE[colour] + rng.uniform(-8, 8, 3), 0, 255).tolist())


def _place_alone(thing: Object, rng: np.random.Generator) -> Placed:
    """As large as it can be while the place still shows: the place is a shift off the centre."""
    grow, dx, dy = rng.uniform(-1, 1, 3).tolist()
    width = ALONE[thing.size] * (1 + _SIZE_JITTER * grow)
    room = (1 - width) / 2 * 0.92  # how far the centre can move
    x = 0.5 + room * (column(thing.place) + 0.08 * dx)
    y = 0.5 + room * (row(thing.place) + 0.08 * dy)
    return Placed(thing.shape, x, y, width, shaded(thing.colour, rng))


def _place_together(thing: Object, rng: np.random.Generator) -> Placed:
    grow, dx, dy = rng.uniform(-1, 1, 3).tolist()
    width = TOGETHER[thing.size] * (1 + _SIZE_JITTER * grow)
    x = 0.5 + 0.25 * column(thing.place) + _PLACE_JITTER * dx
    y = 0.5 + 0.25 * row(thing.place) + _PLACE_JITTER * dy
    return Placed(thing.shape, x, y, width, shaded(thing.colour, rng))


def place(scene: Scene, rng: np.random.Generator) -> list[Placed]:
    """Exact positions, widths and colours of all objects, with a little randomness."""
    put = _place_alone if len(scene) == 1 else _place_together
    return [put(thing, rng) for thing in scene]


def background(rng: np.random.Generator) -> tuple[float, float, float]:
    """A light colour close to grey."""
    level = rng.uniform(216, 246)
    return tuple((level + rng.uniform(-9, 9, 3)).tolist())


def draw(objects: list[Placed], ground: tuple[float, float, float], image_size: int) -> np.ndarray:
    """The picture, uint8 RGB # [image_size, image_size, 3]."""
    side = image_size * _SCALE
    canvas = np.empty((side, side, 3), np.uint8)
    canvas[:] = np.round(ground).astype(np.uint8)
    for thing in objects:
        # cv2 puts pixel centres at whole numbers, half a pixel less than the continuous place, and
        # paints every pixel that the outline touches, half a pixel too many on each side.
        centre, width = np.array([thing.x, thing.y]) * side - 0.5, thing.width * side - 1
        corners = [
            np.round((centre + width * part) * (1 << _SHIFT)).astype(np.int32)
            for part in _BY_SHAPE[thing.shape]
        ]
        cv2.fillPoly(canvas, corners, [round(c) for c in thing.rgb], shift=_SHIFT)
    return cv2.resize(canvas, (image_size, image_size), interpolation=cv2.INTER_AREA)


def encode_png(image: np.ndarray) -> bytes:
    """Lossless PNG bytes of an RGB picture # [height, width, 3] uint8."""
    ok, data = cv2.imencode(".png", image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not ok:
        raise RuntimeError("cv2 could not encode the picture")
    return data.tobytes()
