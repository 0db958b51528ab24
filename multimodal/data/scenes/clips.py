"""Short clips of one shape that moves across the picture in one of eight directions."""

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np

from multimodal.data.scenes import render, sampling
from multimodal.data.scenes.language import SIZE_WORDS, article
from multimodal.data.scenes.world import COLOURS, SHAPES, SIZES, TEST_PAIRS, TRAIN_PAIRS
from multimodal.errors import UserError

DIRECTIONS = (
    "right",
    "down right",
    "down",
    "down left",
    "left",
    "up left",
    "up",
    "up right",
)
CLIP_SPLITS = ("train", "validation", "test")
_WIDTHS = (0.24, 0.34, 0.46)  # of the picture, by size
_TEMPLATES = (
    "a {size} {colour} {shape} moving {direction}",
    "{a_colour} {shape}, {size}, moves {direction}",
    "moving {direction}: a {size} {colour} {shape}",
    "a {size} {colour} {shape} goes {direction}",
    "{size} {colour} {shape} moving {direction}",
)


@dataclasses.dataclass(frozen=True)
class ClipParams:
    """All that decides the bytes of the clips."""

    seed: int = 0
    image_size: int = 32
    frames: int = 8
    train: int = 4_000
    validation: int = 256
    test: int = 512
    captions: int = 4

    def __post_init__(self):
        if self.frames < 2:
            raise UserError(f"clips: frames={self.frames} must be at least 2")
        if not 1 <= self.captions <= len(_TEMPLATES):
            raise UserError(f"clips: captions={self.captions} must be 1 to {len(_TEMPLATES)}")
        if not 16 <= self.image_size <= 1024:
            raise UserError(f"clips: image_size={self.image_size} must be from 16 to 1024")
        for split, size in self.sizes().items():
            if size < 1:
                raise UserError(f"clips: {split}={size} must be at least 1")

    def sizes(self) -> dict[str, int]:
        """Clips by split."""
        return {split: getattr(self, split) for split in CLIP_SPLITS}


Clip = tuple[int, int, int, int]  # shape, colour, size, direction


def _clips(params: ClipParams, split: str) -> Iterator[Clip]:
    """Every description of the split in random order, again and again. Training and validation
    share colour-shape pairs and no description; test has the held-out pairs."""
    pairs = TEST_PAIRS if split == "test" else TRAIN_PAIRS
    every = [
        (*pair, size, direction)
        for pair, size, direction in itertools.product(
            pairs, range(len(SIZES)), range(len(DIRECTIONS))
        )
        if split == "test" or (sum((*pair, size, direction)) % 8 == 0) == (split == "validation")
    ]
    for index in range(params.sizes()[split]):
        if index % len(every) == 0:
            rng = sampling.generator(params.seed, split, index, stream=3)
            order = rng.permutation(len(every))
        yield every[order[index % len(every)]]


def path(direction: int, width: float, frames: int, rng: np.random.Generator) -> np.ndarray:
    """Centres of a straight move that stays inside the picture # [frames, xy]."""
    angle = np.pi / 4 * direction
    along = np.round([np.cos(angle), np.sin(angle)])  # -1, 0, 1 along x and y
    room = (1 - width) / 2 * 0.96
    across = np.where(along == 0, rng.uniform(-room, room, 2), 0.0)
    reach = room * rng.uniform(0.7, 1.0)
    return 0.5 + across + np.linspace(-reach, reach, frames)[:, None] * along


def record(params: ClipParams, split: str, index: int, clip: Clip) -> dict:
    """The clip at `index`: frames, captions, labels. See `builder` for the fields."""
    rng = sampling.generator(params.seed, split, index, stream=2)
    shape, colour, size, direction = clip
    width = _WIDTHS[size] * (1 + 0.03 * rng.uniform(-1, 1))
    centres = path(direction, width, params.frames, rng)
    ground, rgb = render.background(rng), render.shaded(colour, rng)
    frames = [
        render.draw([render.Placed(shape, x, y, width, rgb)], ground, params.image_size)
        for x, y in centres.tolist()
    ]
    words = {
        "colour": COLOURS[colour],
        "a_colour": article(COLOURS[colour]),
        "shape": SHAPES[shape],
        "direction": DIRECTIONS[direction],
    }
    order = rng.permutation(len(_TEMPLATES))[: params.captions]
    return {
        "key": f"{split}/{index:06d}",
        "frames": [render.encode_png(frame) for frame in frames],
        "captions": [
            _TEMPLATES[i].format(size=SIZE_WORDS[SIZES[size]][rng.random() < 0.2], **words)
            for i in order
        ],
        "centres": centres.astype(np.float32),
        "shape_label": shape,
        "colour_label": colour,
        "size_label": size,
        "direction_label": direction,
    }


def records(params: ClipParams, split: str) -> Iterator[dict]:
    """All clips of one split in order."""
    for index, clip in enumerate(_clips(params, split)):
        yield record(params, split, index, clip)
