"""What is measured on the way and at the end."""

from dataclasses import dataclass
from typing import Literal

from multimodal.config.data import Data


@dataclass(frozen=True)
class ZeroShot:
    """Zero-shot classification: label i of the data is named `classes[i]`, in every one of
    `templates`, texts whose `{}` is replaced by the name. A class is the `mean` of its prompts
    (CLIP), or as near as the nearest of them (`max`), where a prompt must say more than the class.

    Where labels are not 0, 1, ..., `labels` lists them in the order of `classes`; a label that is a
    text is a name itself, and without `classes` those that occur are all there are.
    """

    data: Data
    classes: tuple[str, ...] = ()
    kind: Literal["zero_shot"] = "zero_shot"
    labels: tuple[str, ...] = ()
    templates: tuple[str, ...] = ("{}",)
    ensemble: Literal["mean", "max"] = "mean"
    every: int = 1000
    batch_size: int = 256


@dataclass(frozen=True)
class Retrieval:
    """Image-to-text and text-to-image R@1/5/10 over all captions of an image or its first alone;
    `by` also reports R@1 for each value of a field of the record. With languages `apart` each
    language is searched alone, and the plain figures are those of the first."""

    data: Data
    kind: Literal["retrieval"] = "retrieval"
    captions: Literal["all", "first"] = "all"
    by: str | None = None
    languages: Literal["together", "apart"] = "together"
    every: int = 1000
    batch_size: int = 256


@dataclass(frozen=True)
class Accuracy:
    """Of a classifier: label i of the data is its class i; `classes` names them for the page."""

    data: Data
    kind: Literal["accuracy"] = "accuracy"
    classes: tuple[str, ...] = ()
    every: int = 1000
    batch_size: int = 256


@dataclass(frozen=True)
class LinearProbe:
    """Logistic regression on the image embeddings of `train`, tested on those of `data`; without
    `train`, on the other side of the data's `holdout`.

    Embeddings are scaled to unit length. `c` is scikit-learn's C, the inverse strength of the L2
    penalty; of several the best on a fifth of the training part is taken. CLIP's 0.316, on features
    of length about 10, is 31.6 here.
    """

    data: Data
    kind: Literal["linear_probe"] = "linear_probe"
    train: Data | None = None
    c: tuple[float, ...] = (31.6,)
    every: int = 1000
    batch_size: int = 256


@dataclass(frozen=True)
class KNN:
    """The `k` nearest images of `train` by cosine vote on the class of each of `data`; without
    `train` as in `LinearProbe`. A vote weighs exp(cosine / `temperature`) as in DINO (Caron et al.
    2021); without temperature each weighs the same.
    """

    data: Data
    kind: Literal["knn"] = "knn"
    train: Data | None = None
    k: int = 20
    temperature: float | None = 0.07
    every: int = 1000
    batch_size: int = 256


Evaluator = ZeroShot | Retrieval | Accuracy | LinearProbe | KNN
