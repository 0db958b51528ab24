"""What a model needs of its input; it travels in the checkpoint, for training and evaluation."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Preprocessing:
    """How pictures and texts become arrays for one model.

    Pictures: RGB, resized to `image_size` squared by `resize` (`squash` ignores the aspect ratio,
    `crop` scales the short side and cuts the centre, `pad` scales the long side and fills with
    `pad_value`), kept as uint8 until the device computes (x / 255 - mean) / std.
    Texts: tokenised, cut to `length`, filled with the tokenizer's padding id on the right.
    """

    image_size: int = 224
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    resize: Literal["squash", "crop", "pad"] = "crop"
    interpolation: Literal["bicubic", "bilinear", "area"] = "bicubic"
    pad_value: int = 127
    tokenizer: str = "bytes"
    lowercase: bool = True
    length: int = 64
    add_start: bool = True
    add_end: bool = True
