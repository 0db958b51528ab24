"""Settings of CLIP and CoCa as OpenAI and open_clip write them, as ours."""

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

from multimodal.config import CoCa, DualEncoder, ImageTower, Model, TextTower, Transformer
from multimodal.errors import UserError
from multimodal.preprocessing import Preprocessing

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

Settings = tuple[Model, Preprocessing]


def openai_clip(config: dict[str, Any], tokenizer: str = "tokenizer.json") -> Settings:
    """Of OpenAI's CLIP with a ViT, from the arguments of its constructor (embed_dim, ...)."""

    def transformer(width: int, heads: int, depth: int, **options: Any) -> Transformer:
        sizes = {"width": width, "depth": depth, "heads": heads, "mlp": 4 * width}
        return Transformer(**sizes, activation="quick_gelu", norm_eps=1e-5, **options)

    width, c = config["vision_width"], config
    towers = {
        "image": ImageTower(
            image_size=c["image_resolution"],
            patch_size=c["vision_patch_size"],
            patch_bias=False,
            class_token=True,
            pre_norm=True,
            pooler="class",
            projection="linear",
            transformer=transformer(width, width // 64, c["vision_layers"], init="clip_image"),
        ),
        "text": TextTower(
            vocab_size=c["vocab_size"],
            length=c["context_length"],
            pooler="argmax",
            projection="linear",
            transformer=transformer(
                c["transformer_width"],
                c["transformer_heads"],
                c["transformer_layers"],
                init="clip",
                causal=True,
            ),
        ),
    }
    preprocessing = clip_preprocessing(c["image_resolution"], c["context_length"], tokenizer)
    return DualEncoder(towers, embed=c["embed_dim"]), preprocessing


def open_clip_coca(config: dict[str, Any], tokenizer: str = "tokenizer.json") -> Settings:
    """Of open_clip's CoCa, from its model config (embed_dim, vision_cfg, text_cfg,
    multimodal_cfg)."""
    vision, text, decoder = (config[f"{name}_cfg"] for name in ("vision", "text", "multimodal"))
    activation = "quick_gelu" if config.get("quick_gelu") else "gelu"
    if text.get("correct_cls_mask"):
        raise UserError("text_cfg.correct_cls_mask=True of the imported config: not supported")

    def transformer(part: dict[str, Any], heads: int, **options: Any) -> Transformer:
        width = part["width"]
        return Transformer(
            width=width,
            depth=part["layers"],
            heads=heads,
            mlp=int(width * part.get("mlp_ratio", 4)),
            activation=activation,
            norm_eps=1e-5,
            **options,
        )

    image_size, length = vision["image_size"], text["context_length"]
    image_heads = vision["width"] // vision.get("head_width", 64)
    causal = {"causal": True, "init": "clip"}
    pad = text.get("pad_id", 0)
    model = CoCa(
        ImageTower(
            image_size=image_size,
            patch_size=vision["patch_size"],
            patch_bias=False,
            class_token=True,
            pre_norm=True,
            final_norm=False,
            pooler="none",
            transformer=transformer(vision, image_heads, init="clip_image"),
        ),
        TextTower(
            vocab_size=text["vocab_size"],
            length=length,
            pooler="none",
            pad_id=pad,
            projection="none",
            transformer=transformer(text, text["heads"], **causal),
        ),
        transformer(decoder, decoder["heads"], cross_attention=True, **causal),
        form="open_clip",
        embed=config["embed_dim"],
        queries=vision.get("attn_pooler_queries", 256),
        pooler_heads=vision.get("attn_pooler_heads", 8),
    )
    preprocessing = clip_preprocessing(image_size, length, tokenizer)
    return model, dataclasses.replace(preprocessing, pad_id=pad)


def clip_preprocessing(image_size: int, length: int, tokenizer: str) -> Preprocessing:
    return Preprocessing(
        image_size=image_size, mean=CLIP_MEAN, std=CLIP_STD, tokenizer=tokenizer, length=length
    )


def openai_sizes(tensors: Mapping[str, Any]) -> dict[str, int]:
    """The arguments of OpenAI's constructor, from the shapes of its tensors.

    Raises UserError where they are not those of a CLIP with a ViT, where nothing says that they are
    OpenAI's, whose activation is another than open_clip's, and where one that tells a size is
    missing or of other dimensions.
    """
    if "visual.conv1.weight" not in tensors or "visual.proj" not in tensors:
        raise UserError("the tensors are not those of a CLIP with a ViT: there is no visual.proj")
    if "context_length" not in tensors:
        raise UserError(
            "nothing says which activation these weights were trained with: OpenAI's files, with "
            "quick_gelu, hold a tensor context_length; for others name a folder with the weights "
            "and their open_clip_config.json"
        )

    def shape(name: str, rank: int) -> tuple[int, ...]:
        if name not in tensors:
            raise UserError(f"openai_clip weights: {name} is missing")
        found = tuple(tensors[name].shape)
        if len(found) != rank:
            raise UserError(f"openai_clip weights: {name} has shape {found}, not {rank} dimensions")
        return found

    width, _, _, patch = shape("visual.conv1.weight", 4)
    positions = shape("visual.positional_embedding", 2)[0] - 1
    length, text_width = shape("positional_embedding", 2)

    def layers(prefix: str) -> int:
        pattern = re.compile(re.escape(prefix) + r"\.resblocks\.(\d+)\.")
        return 1 + max((int(m[1]) for m in map(pattern.match, tensors) if m), default=-1)

    return {
        "embed_dim": shape("text_projection", 2)[1],
        "image_resolution": math.isqrt(positions) * patch,
        "vision_layers": layers("visual.transformer"),
        "vision_width": width,
        "vision_patch_size": patch,
        "context_length": length,
        "vocab_size": shape("token_embedding.weight", 2)[0],
        "transformer_width": text_width,
        "transformer_heads": text_width // 64,
        "transformer_layers": layers("transformer"),
    }
