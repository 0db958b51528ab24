"""What is trained: stacks, towers and the models made of them."""

from dataclasses import dataclass, field
from typing import Literal

Activation = Literal["gelu", "gelu_tanh", "quick_gelu", "relu", "silu"]
# What a block keeps for the backward pass, which computes the rest again: the less, the slower.
Keep = Literal["everything", "products", "inputs"]
# All scores at once; a tile of them at a time, round a ring of devices along `mesh.sequence`; a
# kernel for TPUs; one for NVIDIA GPUs; or what suits devices and lengths.
Attention = Literal["auto", "xla", "blockwise", "splash", "cudnn"]


@dataclass(frozen=True)
class Transformer:
    """A stack of equal blocks. `mlp` is the hidden width of the feed-forward part. `keep` says what
    each block keeps for the backward pass: everything, the results of its matrix products with
    parameters, or its input alone."""

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
    keep: Keep = "everything"
    scan: bool = True
    attention: Attention = "auto"


@dataclass(frozen=True)
class ImageTower:
    """Vision Transformer (Dosovitskiy et al. 2021) with the variations of CLIP and SigLIP.

    With `max_patches`, pictures keep their aspect ratio and have up to so many patches each; the
    positions of the square of `image_size` are resized to each (NaFlex, Tschannen et al. 2025).
    """

    kind: Literal["image"] = "image"
    image_size: int = 224
    patch_size: int = 16
    max_patches: int | None = None
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
    """Transformer over token ids; `argmax` pools at the largest id, `end` at the first `end_id`.

    BERT's has `token_types`, `embedding_norm`, a post-norm stack and no `final_norm`.
    """

    kind: Literal["text"] = "text"
    vocab_size: int = 32000
    length: int = 64
    pooler: Literal["argmax", "end", "last", "first", "mean", "none"] = "last"
    end_id: int = 2
    pad_id: int = 0
    mask_padding: bool = False
    token_types: int = 0
    embedding_norm: bool = False
    final_norm: bool = True
    projection: Literal["none", "linear", "linear_bias"] = "linear_bias"
    transformer: Transformer = field(default_factory=Transformer)


@dataclass(frozen=True)
class Precomputed:
    """Vectors of `width` that `python -m multimodal.embed` computed before, in place of a frozen
    tower NAME; read from the batch's NAME_features (LiT, Zhai et al. 2022)."""

    width: int
    kind: Literal["precomputed"] = "precomputed"
    projection: Literal["none", "linear", "linear_bias"] = "none"


@dataclass(frozen=True)
class DualEncoder:
    """Named towers and the pairs of them that a contrastive loss compares (CLIP, SigLIP)."""

    towers: dict[str, ImageTower | TextTower | Precomputed]
    kind: Literal["dual_encoder"] = "dual_encoder"
    embed: int = 512
    pairs: tuple[tuple[str, str], ...] = (("image", "text"),)
    logit_scale_init: float = 2.6592600  # log(1 / 0.07), CLIP
    logit_scale_max: float | None = 4.6051702  # log(100), CLIP; None: no limit
    logit_bias_init: float | None = None  # SigLIP: -10


@dataclass(frozen=True)
class Heads:
    """Heads of self-distillation: unit vectors `bottleneck` wide are compared with `prototypes`."""

    hidden: int = 2048
    bottleneck: int = 256
    prototypes: int = 65536


@dataclass(frozen=True)
class Siglip2(DualEncoder):
    """A dual encoder of the towers `image` and `text` with a decoder that reads the text off the
    picture's tokens, and `heads` for views of the picture (Tschannen et al. 2025); both are used in
    training alone."""

    kind: Literal["siglip2"] = "siglip2"
    heads: Heads | None = None
    decoder: Transformer = field(default_factory=lambda: Transformer(depth=6, cross_attention=True))


@dataclass(frozen=True)
class Classifier:
    """The tower `image` and a linear head of `classes` (Dosovitskiy et al. 2021), whose bias begins
    at `head_bias_init`: -10 for sigmoid losses over many classes (Beyer et al. 2020)."""

    towers: dict[str, ImageTower]
    classes: int
    kind: Literal["classifier"] = "classifier"
    head_bias_init: float = 0.0


@dataclass(frozen=True)
class CoCa:
    """Contrastive captioner (Yu et al. 2022): unimodal then multimodal half of one text decoder.

    open_clip's form has one attention pooler, whose first query is for contrast and the other
    `queries` - 1 for captions; a position for the class token; and in each layer of the decoder an
    MLP after either attention.
    """

    image: ImageTower
    text: TextTower
    decoder: Transformer
    kind: Literal["coca"] = "coca"
    form: Literal["paper", "open_clip"] = "paper"
    embed: int = 512
    queries: int = 256
    pooler_heads: int = 8
    logit_scale_init: float = 2.6592600
    logit_scale_max: float | None = 4.6051702


@dataclass(frozen=True)
class Bert:
    """Masked words and next sentences over one text encoder (Devlin et al. 2019)."""

    text: TextTower
    kind: Literal["bert"] = "bert"


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


Model = DualEncoder | Classifier | Siglip2 | CoCa | Bert | Uniter | PrefixLM


def entries(towers: dict[str, ImageTower | TextTower | Precomputed]) -> dict[str, str]:
    """The entry of the batch that each tower reads, by its name."""
    return {
        name: f"{name}_features" if isinstance(tower, Precomputed) else name
        for name, tower in towers.items()
    }
