"""What is measured on the way and at the end."""

from dataclasses import dataclass
from typing import Literal

from multimodal.config.data import Data


@dataclass(frozen=True)
class ZeroShot:
    """Zero-shot classification: label i of the data is named `classes[i]`, in every one of
    `templates`, texts whose `{}` is replaced by the name. A class is the `mean` of its prompts
    (CLIP), or as near as the nearest of them (`max`), where a prompt must say more than the class.
    """

    data: Data
    classes: tuple[str, ...]
    kind: Literal["zero_shot"] = "zero_shot"
    templates: tuple[str, ...] = ("{}",)
    ensemble: Literal["mean", "max"] = "mean"
    every: int = 1000
    batch_size: int = 256


@dataclass(frozen=True)
class Retrieval:
    """Image-to-text and text-to-image R@1/5/10 over all captions of an image or its first alone;
    `by` also reports R@1 for each value of a field of the record."""

    data: Data
    kind: Literal["retrieval"] = "retrieval"
    captions: Literal["all", "first"] = "all"
    by: str | None = None
    every: int = 1000
    batch_size: int = 256


Evaluator = ZeroShot | Retrieval
