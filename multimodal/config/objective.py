"""What a step is trained to do: one dataclass a training signal."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Contrastive:
    """Softmax (CLIP) or sigmoid (SigLIP) over one pair of towers; `form` says how to compute it,
    `chunk` how many rows and columns at a time (None: what suits the device). With `dtype`
    "bfloat16" embeddings are rounded to it, in which they travel between devices in half the bytes;
    their products are added up in float32 all the same.

    `positives` says what matches an example: its "own" partner, those of all examples of its
    `label`, or of all with its `text`. A share `label_smoothing` of softmax's targets is spread
    over all examples (PyramidCLIP, Gao et al. 2022). Where `data.texts` gives a picture several
    texts, the loss is the mean over the first text of each, the second of each, and so on.
    """

    kind: Literal["contrastive"] = "contrastive"
    weight: float = 1.0
    pair: tuple[str, str] = ("image", "text")
    loss: Literal["softmax", "sigmoid"] = "softmax"
    form: Literal["dense", "chunked", "ring"] = "ring"
    chunk: int | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    positives: Literal["own", "label", "text"] = "own"
    label_smoothing: float = 0.0


@dataclass(frozen=True)
class Distillation:
    """Agreement with a trained model that stays as it is, the run in the folder `teacher` at `step`
    (None: its newest): `logits` weighs how far the distribution over the batch's texts of each
    picture, and over its pictures of each text, is from the teacher's; `features` how far the
    embeddings are, which needs equal `embed`.
    """

    teacher: str
    kind: Literal["distillation"] = "distillation"
    weight: float = 1.0
    step: int | None = None
    pair: tuple[str, str] = ("image", "text")
    logits: float = 1.0
    features: float = 0.0


@dataclass(frozen=True)
class Classification:
    """Cross-entropy of the label over exclusive classes (softmax) or class by class (sigmoid).

    With `mixup`, pictures and labels of a batch are blended by a ratio from Beta(mixup, mixup)
    (Zhang et al. 2018).
    """

    kind: Literal["classification"] = "classification"
    weight: float = 1.0
    loss: Literal["softmax", "sigmoid"] = "softmax"
    label_smoothing: float = 0.0
    mixup: float = 0.0


@dataclass(frozen=True)
class Captioning:
    """Next-token cross-entropy of the caption, mean over its tokens."""

    kind: Literal["captioning"] = "captioning"
    weight: float = 1.0


@dataclass(frozen=True)
class DecoderCaptioning:
    """Cross-entropy of the text, a share `parallel` of the examples without seeing any word of it;
    the logits of `chunk` positions at a time."""

    kind: Literal["decoder_captioning"] = "decoder_captioning"
    weight: float = 1.0
    parallel: float = 0.5
    chunk: int = 8


@dataclass(frozen=True)
class MaskedLanguage:
    """Masked words (Devlin et al. 2019): of `rate`, 80 % masked, 10 % random, 10 % kept."""

    kind: Literal["masked_language"] = "masked_language"
    weight: float = 1.0
    rate: float = 0.15


@dataclass(frozen=True)
class SelfDistillation:
    """Each of `local_views` crops, `local_size` pixels square, agrees with what a teacher says of
    the picture (DINO). It counts from the share `begin` of the run on."""

    kind: Literal["self_distillation"] = "self_distillation"
    weight: float = 1.0
    begin: float = 0.0
    local_views: int = 8
    local_size: int = 96
    student_temperature: float = 0.1
    teacher_temperature: float = 0.04
    chunk: int = 8


@dataclass(frozen=True)
class MaskedPatches:
    """A share `rate` of the patches is masked, and agrees with what a teacher says of them (iBOT).
    It counts from the share `begin` of the run on."""

    kind: Literal["masked_patches"] = "masked_patches"
    weight: float = 1.0
    begin: float = 0.0
    rate: float = 0.5
    patch_size: int = 16
    student_temperature: float = 0.1
    teacher_temperature: float = 0.04
    chunk: int = 8


@dataclass(frozen=True)
class Matching:
    """Does the text belong to the image? Images are swapped within the batch at `rate`."""

    kind: Literal["matching"] = "matching"
    weight: float = 1.0
    rate: float = 0.5


Objective = (
    Contrastive
    | Classification
    | Captioning
    | DecoderCaptioning
    | MaskedLanguage
    | Matching
    | Distillation
    | SelfDistillation
    | MaskedPatches
)
