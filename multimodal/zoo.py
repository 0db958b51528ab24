"""Published models by name, as plain settings: what a recipe puts under `model` and
`preprocessing`."""

from typing import Any

from multimodal.errors import UserError
from multimodal.schema import nearest

# Width, depth, heads, MLP width: Zhai et al. 2022 (arXiv:2106.04560, table 2); H is of Dosovitskiy
# et al. 2021, So400m of Alabdulmohsin et al. 2023, g-opt of SigLIP 2.
SIZES: dict[str, tuple[int, int, int, int]] = {
    "Ti": (192, 12, 3, 768),
    "S": (384, 12, 6, 1536),
    "B": (768, 12, 12, 3072),
    "L": (1024, 24, 16, 4096),
    "So400m": (1152, 27, 16, 4304),
    "H": (1280, 32, 16, 5120),
    "g": (1408, 40, 16, 6144),
    "g-opt": (1536, 40, 16, 6144),
    "G": (1664, 48, 16, 8192),
}

# Size, patch and picture of the image tower; embedding; width and depth of the text tower. The
# first four are OpenAI's (Radford et al. 2021), with the approximate GELU; the others are
# open_clip's, with the exact one.
CLIP: dict[str, tuple[str, int, int, int, int, int, str]] = {
    "ViT-B-32": ("B", 32, 224, 512, 512, 12, "quick_gelu"),
    "ViT-B-16": ("B", 16, 224, 512, 512, 12, "quick_gelu"),
    "ViT-L-14": ("L", 14, 224, 768, 768, 12, "quick_gelu"),
    "ViT-L-14-336": ("L", 14, 336, 768, 768, 12, "quick_gelu"),
    "ViT-L-16": ("L", 16, 224, 768, 768, 12, "gelu"),
    "ViT-H-14": ("H", 14, 224, 1024, 1024, 24, "gelu"),
    "ViT-g-14": ("g", 14, 224, 1024, 1024, 24, "gelu"),
    "ViT-bigG-14": ("G", 14, 224, 1280, 1280, 32, "gelu"),
}

# Size of both towers, patch and picture; tokens of a text (Zhai et al. 2023). The last is of
# SigLIP 2, which has So400m for its texts.
SIGLIP: dict[str, tuple[str, int, int, int]] = {
    "B-16": ("B", 16, 224, 64),
    "B-16-256": ("B", 16, 256, 64),
    "B-16-384": ("B", 16, 384, 64),
    "B-16-512": ("B", 16, 512, 64),
    "L-16": ("L", 16, 256, 64),
    "L-16-384": ("L", 16, 384, 64),
    "SO400M-14": ("So400m", 14, 224, 16),
    "SO400M-14-384": ("So400m", 14, 378, 64),  # whole patches of the 384 pixels
    "g-opt-16-256": ("g-opt", 16, 256, 64),
}

# Sizes of the image and of the text tower, patch and picture (Tschannen et al. 2025).
SIGLIP2: dict[str, tuple[str, str, int, int]] = {
    "B-32-256": ("B", "B", 32, 256),
    "B-16-224": ("B", "B", 16, 224),
    "B-16-256": ("B", "B", 16, 256),
    "L-16-256": ("L", "L", 16, 256),
    "SO400M-16-256": ("So400m", "So400m", 16, 256),
    "g-opt-16-256": ("g-opt", "So400m", 16, 256),
}

# Image stack (width, depth, heads, MLP), unimodal and multimodal layers of its width (Yu et al.
# 2022, table 1); patches of 18 pixels, 64,000 words. The sizes given for the full one add up to
# 2.27 billion parameters, where the table says 2.1.
COCA: dict[str, tuple[tuple[int, int, int, int], int, int]] = {
    "base": (SIZES["B"], 12, 12),
    "large": (SIZES["L"], 12, 12),
    "full": (SIZES["g"], 18, 18),
}


def transformer(size: str, **options: Any) -> dict[str, Any]:
    """Settings of a stack of one of the SIZES. Raises UserError for another name."""
    return _stack(*_named(size, SIZES, "size"), **options)


def clip(name: str, **stacks: Any) -> dict[str, dict[str, Any]]:
    """{"model", "preprocessing"} of a model in CLIP, `stacks` setting options of both Transformers.

    Raises UserError for another name.
    """
    size, patch, image_size, embed, width, depth, activation = _named(name, CLIP, "CLIP model")
    options = {"activation": activation, "norm_eps": 1e-5} | stacks
    image = {
        "kind": "image",
        "image_size": image_size,
        "patch_size": patch,
        "patch_bias": False,
        "class_token": True,
        "pre_norm": True,
        "pooler": "class",
        "projection": "linear",
        "transformer": transformer(size, init="clip_image", **options),
    }
    text = {
        "kind": "text",
        "vocab_size": 49408,
        "length": 77,
        "pooler": "end",
        "end_id": 49407,
        "pad_id": 49407,
        "projection": "linear",
        "transformer": _stack(
            width, depth, width // 64, 4 * width, init="clip", causal=True, **options
        ),
    }
    return {
        "model": {"kind": "dual_encoder", "embed": embed, "towers": {"image": image, "text": text}},
        "preprocessing": {
            "image_size": image_size,
            "mean": (0.48145466, 0.4578275, 0.40821073),
            "std": (0.26862954, 0.26130258, 0.27577711),
            "length": 77,
        },
    }


def siglip(name: str, text_size: str | None = None, **stacks: Any) -> dict[str, dict[str, Any]]:
    """{"model", "preprocessing"} of a model in SIGLIP, `stacks` setting options of both
    Transformers; `text_size` is for a text tower of another of the SIZES. Raises UserError for
    another name."""
    size, patch, image_size, length = _named(name, SIGLIP, "SigLIP model")
    pictures, words = transformer(size, **stacks), transformer(text_size or size, **stacks)
    image = {
        "kind": "image",
        "image_size": image_size,
        "patch_size": patch,
        "pooler": "map",
        "transformer": pictures,
    }
    text = {
        "kind": "text",
        "vocab_size": 32000,
        "length": length,
        "pooler": "last",
        "end_id": 1,
        "pad_id": 1,
        "projection": "linear_bias",
        "transformer": words,
    }
    return {
        "model": {
            "kind": "dual_encoder",
            "embed": pictures["width"],
            "towers": {"image": image, "text": text},
            "logit_scale_init": 2.3025851,  # log(10)
            "logit_scale_max": None,
            "logit_bias_init": -10.0,
        },
        "preprocessing": {
            "image_size": image_size,
            "resize": "squash",
            "length": length,
            "canonicalize": True,
            "add_start": False,
            "pad_id": 1,
        },
    }


def siglip2(name: str, max_patches: int | None = None, **stacks: Any) -> dict[str, dict[str, Any]]:
    """{"model", "preprocessing"} of a model in SIGLIP2, `stacks` setting options of its three
    Transformers. Raises UserError for another name.

    The decoder has the shape of the text tower and half its layers (section 2.2). With
    `max_patches` pictures keep their aspect ratio (NaFlex), and there are no heads for views.
    """
    size, text_size, patch, image_size = _named(name, SIGLIP2, "SigLIP 2 model")
    pictures, words = transformer(size, **stacks), transformer(text_size, **stacks)
    named = siglip("B-16")
    text = named["model"]["towers"]["text"] | {
        "vocab_size": 256_000,  # Gemma's
        "pad_id": 0,
        "transformer": words,
    }
    image = {
        "kind": "image",
        "image_size": image_size,
        "patch_size": patch,
        "max_patches": max_patches,
        "pooler": "map",
        "transformer": pictures,
    }
    model = {
        "kind": "siglip2",
        "embed": pictures["width"],
        "towers": {"image": image, "text": text},
        "decoder": words | {"depth": words["depth"] // 2, "cross_attention": True},
        "heads": None if max_patches else {},
    }
    pictures_as = {"image_size": image_size, "max_patches": max_patches, "patch_size": patch}
    texts_as = {"canonicalize": False, "pad_id": 0}
    return {
        "model": named["model"] | model,
        "preprocessing": named["preprocessing"] | pictures_as | texts_as,
    }


def coca(name: str, **stacks: Any) -> dict[str, dict[str, Any]]:
    """{"model", "preprocessing"} of a model in COCA, `stacks` setting options of its three
    Transformers. Raises UserError for another name."""
    (width, depth, heads, mlp), unimodal, multimodal = _named(name, COCA, "CoCa model")
    image = {
        "kind": "image",
        "image_size": 288,
        "patch_size": 18,
        "pooler": "none",
        "transformer": _stack(width, depth, heads, mlp, **stacks),
    }
    text = {
        "kind": "text",
        "vocab_size": 64000,
        "length": 64,
        "pooler": "none",
        "projection": "none",
        "transformer": _stack(width, unimodal, heads, mlp, causal=True, **stacks),
    }
    return {
        "model": {
            "kind": "coca",
            "embed": width,
            "image": image,
            "text": text,
            "decoder": _stack(
                width, multimodal, heads, mlp, causal=True, cross_attention=True, **stacks
            ),
            "queries": 256,
            "pooler_heads": heads,
        },
        "preprocessing": {"image_size": 288, "length": 64},
    }


def small(
    loss: str,
    *,
    image: dict[str, Any],
    text: dict[str, Any],
    image_size: int,
    patch_size: int,
    length: int,
    vocab_size: int = 260,  # of bytes
    pad_id: int = 0,
    embed: int = 64,
    patch_dropout: float = 0.0,
    **preprocessing: Any,
) -> dict[str, dict[str, Any]]:
    """{"model", "preprocessing"} of a plain dual encoder of two given stacks, for small sets: both
    towers pool all that they hold, and start at the temperature of `loss`, softmax or sigmoid."""
    sigmoid = loss == "sigmoid"
    towers = {
        "image": {
            "kind": "image",
            "image_size": image_size,
            "patch_size": patch_size,
            "patch_dropout": patch_dropout,
            "projection": "linear",
            "transformer": image,
        },
        "text": {
            "kind": "text",
            "vocab_size": vocab_size,
            "length": length,
            "pooler": "mean",
            "pad_id": pad_id,
            "mask_padding": True,
            "projection": "linear",
            "transformer": text,
        },
    }
    return {
        "model": {
            "kind": "dual_encoder",
            "embed": embed,
            "towers": towers,
            "logit_scale_init": 2.3025851 if sigmoid else 2.6592600,  # log(10), log(1 / 0.07)
            "logit_bias_init": -10.0 if sigmoid else None,
        },
        "preprocessing": {"image_size": image_size, "length": length} | preprocessing,
    }


def resized(
    named: dict[str, dict[str, Any]],
    *,
    image: dict[str, Any],
    text: dict[str, Any],
    image_size: int,
    patch_size: int,
    length: int,
    embed: int,
    tokens: dict[str, int],
    **preprocessing: Any,
) -> dict[str, dict[str, Any]]:
    """{"model", "preprocessing"} in the form of a published dual encoder, such as `clip` gives, of
    two given stacks: it is exported as that one is. `tokens`: vocab_size, end_id and pad_id."""
    model, towers = named["model"], named["model"]["towers"]
    pictures = {"image_size": image_size, "patch_size": patch_size}
    pictures |= {"transformer": towers["image"]["transformer"] | image}
    words = tokens | {"length": length, "transformer": towers["text"]["transformer"] | text}
    told = {"image": towers["image"] | pictures, "text": towers["text"] | words}
    read = {"image_size": image_size, "length": length} | preprocessing
    return {
        "model": model | {"embed": embed, "towers": told},
        "preprocessing": named["preprocessing"] | read,
    }


def vit(name: str, image_size: int = 224, **stack: Any) -> dict[str, Any]:
    """An image tower, such as "B-16", that is read at its class token (Dosovitskiy et al. 2021);
    `stack` sets options of its Transformer. Raises UserError for a size that is not in SIZES."""
    size, _, patch = name.rpartition("-")
    return {
        "kind": "image",
        "image_size": image_size,
        "patch_size": int(patch),
        "class_token": True,
        "pooler": "class",
        "transformer": transformer(size, **stack),
    }


def _stack(width: int, depth: int, heads: int, mlp: int, **options: Any) -> dict[str, Any]:
    return {"width": width, "depth": depth, "heads": heads, "mlp": mlp} | options


def _named(name: str, table: dict[str, tuple], what: str) -> tuple:
    if name not in table:
        raise UserError(f"no {what} {name!r}{nearest(name, table)}")
    return table[name]
