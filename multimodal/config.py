"""The settings of a run: frozen dataclasses with defaults.

Every recipe in `configs/` fills in a part of `Config`; `from_dict(Config, ...)` refuses the rest,
and `multimodal/checks.py` what does not go together.
"""

from dataclasses import dataclass, field, is_dataclass
from typing import Any, Literal

from multimodal.preprocessing import Preprocessing
from multimodal.schema import from_dict, to_dict

__all__ = ["Config", "from_dict", "to_dict"]

Activation = Literal["gelu", "gelu_tanh", "quick_gelu", "relu", "silu"]
# What a block keeps for the backward pass: everything; matrix products; nothing but its input.
Remat = Literal["none", "dots", "full"]


@dataclass(frozen=True)
class Transformer:
    """A stack of equal blocks. `mlp` is the hidden width of the feed-forward part."""

    width: int = 768
    depth: int = 12
    heads: int = 12
    mlp: int = 3072
    activation: Activation = "gelu_tanh"
    norm_position: Literal["pre", "post"] = "pre"
    norm_eps: float = 1e-6
    causal: bool = False
    cross_attention: bool = False
    dropout: float = 0.0
    attention_dropout: float = 0.0
    drop_path: float = 0.0
    init: Literal["vit", "clip", "clip_image", "bert"] = "vit"
    remat: Remat = "none"
    scan: bool = True
    attention: Literal["xla", "cudnn"] = "xla"


@dataclass(frozen=True)
class ImageTower:
    """Vision Transformer (Dosovitskiy et al. 2021) with the variations of CLIP and SigLIP."""

    kind: Literal["image"] = "image"
    image_size: int = 224
    patch_size: int = 16
    patch_bias: bool = True
    class_token: bool = False
    pre_norm: bool = False
    final_norm: bool = True
    pooler: Literal["class", "map", "mean", "none"] = "map"
    projection: Literal["none", "linear", "linear_bias"] = "none"
    patch_dropout: float = 0.0
    transformer: Transformer = field(default_factory=Transformer)


@dataclass(frozen=True)
class TextTower:
    """Transformer over token ids; `argmax` pools at the largest id, `end` at the first `end_id`."""

    kind: Literal["text"] = "text"
    vocab_size: int = 32000
    length: int = 64
    pooler: Literal["argmax", "end", "last", "first", "mean", "none"] = "last"
    end_id: int = 2
    pad_id: int = 0
    mask_padding: bool = False
    projection: Literal["none", "linear", "linear_bias"] = "linear_bias"
    transformer: Transformer = field(default_factory=Transformer)


@dataclass(frozen=True)
class DualEncoder:
    """Named towers and the pairs of them that a contrastive loss compares (CLIP, SigLIP)."""

    towers: dict[str, ImageTower | TextTower]
    kind: Literal["dual_encoder"] = "dual_encoder"
    embed: int = 512
    pairs: tuple[tuple[str, str], ...] = (("image", "text"),)
    logit_scale_init: float = 2.6592600  # log(1 / 0.07), CLIP
    logit_scale_max: float | None = 4.6051702  # log(100), CLIP; None: no limit
    logit_bias_init: float | None = None  # SigLIP: -10


@dataclass(frozen=True)
class CoCa:
    """Contrastive captioner (Yu et al. 2022): unimodal then multimodal half of one text decoder."""

    image: ImageTower
    text: TextTower
    decoder: Transformer
    kind: Literal["coca"] = "coca"
    embed: int = 512
    queries: int = 256
    pooler_heads: int = 8
    logit_scale_init: float = 2.6592600
    logit_scale_max: float | None = 4.6051702


@dataclass(frozen=True)
class Uniter:
    """One stream over words and regions (Chen et al. 2020); regions are the cells of a grid."""

    transformer: Transformer
    kind: Literal["uniter"] = "uniter"
    vocab_size: int = 30522
    length: int = 64
    image_size: int = 224
    region_size: int = 32
    pad_id: int = 0


@dataclass(frozen=True)
class PrefixLM:
    """Image tokens, then text, through one decoder: full attention in the prefix, then causal."""

    image: ImageTower
    decoder: Transformer
    kind: Literal["prefix_lm"] = "prefix_lm"
    vocab_size: int = 32000
    length: int = 64


Model = DualEncoder | CoCa | Uniter | PrefixLM


@dataclass(frozen=True)
class Contrastive:
    """Softmax (CLIP) or sigmoid (SigLIP) over one pair of towers; `form` says how to compute it,
    `chunk` how many rows and columns at a time (None: what suits the device)."""

    kind: Literal["contrastive"] = "contrastive"
    weight: float = 1.0
    pair: tuple[str, str] = ("image", "text")
    loss: Literal["softmax", "sigmoid"] = "softmax"
    form: Literal["dense", "chunked", "ring"] = "ring"
    chunk: int | None = None


@dataclass(frozen=True)
class Captioning:
    """Next-token cross-entropy of the caption, mean over its tokens."""

    kind: Literal["captioning"] = "captioning"
    weight: float = 1.0


@dataclass(frozen=True)
class MaskedLanguage:
    """Masked words (Devlin et al. 2019): of `rate`, 80 % masked, 10 % random, 10 % kept."""

    kind: Literal["masked_language"] = "masked_language"
    weight: float = 1.0
    rate: float = 0.15


@dataclass(frozen=True)
class Matching:
    """Does the text belong to the image? Images are swapped within the batch at `rate`."""

    kind: Literal["matching"] = "matching"
    weight: float = 1.0
    rate: float = 0.5


Objective = Contrastive | Captioning | MaskedLanguage | Matching


@dataclass(frozen=True)
class Scenes:
    """Drawn scenes, generated from a seed on first use (`multimodal/data/scenes`)."""

    kind: Literal["scenes"] = "scenes"
    split: str = "train"
    train: int = 20000
    image_size: int = 32
    seed: int = 0


@dataclass(frozen=True)
class Tfds:
    """A folder that TensorFlow Datasets prepared as ArrayRecord, or its name below `data_dir`.

    `split` may be sliced and joined as TFDS does: `train[:90%]`, `test+test_many`.
    """

    name: str
    kind: Literal["tfds"] = "tfds"
    split: str = "train"


@dataclass(frozen=True)
class ArrayRecords:
    """ArrayRecord files that `multimodal.data.array_record.write` made; `path` as for `Tar`."""

    path: str
    kind: Literal["array_record"] = "array_record"


@dataclass(frozen=True)
class Tar:
    """WebDataset shards: one file, `{000..999}` or `*` patterns, or several joined by `::`.

    A relative path is looked for below `data_dir`. A record's fields are the extensions of its
    members; `json.a.b` reaches into a JSON member.
    """

    path: str
    kind: Literal["tar"] = "tar"


Source = Scenes | Tfds | ArrayRecords | Tar


@dataclass(frozen=True)
class Holdout:
    """Keeps or sets aside a `share` of the groups: records with one value of the field `by`.

    A fixed hash of the group's name decides its side, so no group is ever on both.
    """

    by: str
    share: float = 0.1
    keep: Literal["train", "test"] = "train"


@dataclass(frozen=True)
class Data:
    """Where examples come from and what happens to them before the model's own preprocessing.

    `fields` maps what the model reads (image, text, label) to the record's names, `a|b` standing
    for the first it has; `where` keeps records whose field has one of the values; `augment` lists
    transforms as plain data, `{"op": NAME, ...}`, for training alone. When shuffled, `group`
    consecutive records stay together. `workers` are processes that read and decode (0: threads of
    this one); more than a share of `max_broken` unreadable records ends the run.
    """

    source: Source
    fields: dict[str, str] = field(default_factory=lambda: {"image": "image", "text": "text"})
    augment: tuple[dict[str, Any], ...] = ()
    where: dict[str, tuple[int | str, ...]] = field(default_factory=dict)
    holdout: Holdout | None = None
    shuffle: bool = True
    group: int = 1
    workers: int = 0
    max_broken: float = 0.01


@dataclass(frozen=True)
class Task:
    """What one kind of step trains on and which signals it adds up over one forward pass."""

    data: Data
    objectives: dict[str, Objective]
    weight: float = 1.0


@dataclass(frozen=True)
class Rule:
    """Learning-rate multiplier for parameters whose path matches `pattern`; None freezes them."""

    pattern: str
    multiplier: float | None


@dataclass(frozen=True)
class Optimizer:
    """How a step changes the parameters; `training/optimizer.py` has the formulas and their order.

    `adafactor` is big_vision's form: `beta2` caps its second-moment decay, `clip_update` limits the
    root mean square of each layer's update (off there), `eps` is AdamW's alone. Lion's authors use
    `beta2` 0.99. The decay of a step is learning rate * `weight_decay` * parameter; paths that a
    pattern of `no_decay` matches have none. The first matching rule sets a path's multiplier.
    """

    name: Literal["adamw", "adafactor", "lion"] = "adamw"
    learning_rate: float = 1e-3
    schedule: Literal["cosine", "linear", "rsqrt", "constant"] = "cosine"
    warmup_steps: int = 0
    cooldown_steps: int = 0
    final_fraction: float = 0.0
    rsqrt_timescale: int = 10000
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    no_decay: tuple[str, ...] = (".*bias$", ".*scale$", ".*(position|token|probe|queries)$")
    clip_norm: float | None = 1.0
    clip_update: float | None = None
    rules: tuple[Rule, ...] = ()


@dataclass(frozen=True)
class MeshShape:
    """Devices along each axis; -1 takes what is left. `slices` are joined along `data`."""

    data: int = -1
    fsdp: int = 1
    tensor: int = 1
    sequence: int = 1
    slices: int = 1


@dataclass(frozen=True)
class Checkpoints:
    """A save every `every` steps; the newest `keep` stay; every `keep_every`-th for good."""

    every: int = 1000
    keep: int = 2
    keep_every: int | None = None


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


@dataclass(frozen=True)
class Config:
    """One run. `accumulate` splits the batch into microbatches that share one loss."""

    name: str
    model: Model
    tasks: dict[str, Task]
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    optimizer: Optimizer = field(default_factory=Optimizer)
    mesh: MeshShape = field(default_factory=MeshShape)
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    evaluators: dict[str, Evaluator] = field(default_factory=dict)
    seed: int = 0
    steps: int = 1000
    batch_size: int = 256
    accumulate: int = 1
    dtype: Literal["float32", "bfloat16"] = "float32"
    ema: float | None = None
    log_every: int = 50
    profile: bool = False
    data_dir: str = ""


def parts(part: Any, path: str = "config.model") -> list[tuple[str, Any]]:
    """The dataclasses that a model consists of with their dotted paths, outermost first."""
    found = [(path, part)]
    for name, value in vars(part).items():
        if isinstance(value, dict):
            for key, inner in value.items():
                found += parts(inner, f"{path}.{name}.{key}")
        elif is_dataclass(value):
            found += parts(value, f"{path}.{name}")
    return found
