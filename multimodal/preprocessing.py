"""What a model needs of its input; it travels in the checkpoint, for training and evaluation."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Preprocessing:
    """How pictures and texts become arrays for one model.

    Pictures: RGB, resized to `image_size` squared by `resize` (`squash` ignores the aspect ratio,
    `crop` scales the short side and cuts the centre, `pad` scales the long side and fills with
    `pad_value`), kept as uint8 until the device computes (x / 255 - mean) / std. With `max_patches`
    they keep their aspect ratio instead and are cut into at most so many patches of `patch_size`
    (NaFlex, Tschannen et al. 2025).
    Texts: lower-cased by `lowercase`, without ASCII punctuation and with single spaces by
    `canonicalize` (SigLIP), tokenised by `tokenizer` (`bytes`, or a file), cut to `length`, filled
    on the right with `pad_id` (None: the tokenizer's own).
    """

    image_size: int = 224
    max_patches: int | None = None
    patch_size: int = 16
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    resize: Literal["squash", "crop", "pad"] = "crop"
    interpolation: Literal["bicubic", "bilinear", "area"] = "bicubic"
    pad_value: int = 127
    tokenizer: str = "bytes"
    lowercase: bool = True
    canonicalize: bool = False
    length: int = 64
    pad_id: int | None = None
    add_start: bool = True
    add_end: bool = True
