"""What an open_clip_config.json says, as ours: CLIP with a ViT, CoCa, SigLIP of fixed size."""

import dataclasses
import re
from typing import Any

from multimodal.config import DualEncoder, ImageTower, TextTower, Transformer
from multimodal.errors import UserError
from multimodal.interop.huggingface import huggingface_siglip
from multimodal.interop.openai import Settings, clip_preprocessing, open_clip_coca

# What may stand there and changes nothing of what the model computes in evaluation.
_HARMLESS = {"output_tokens", "patch_dropout", "hf_tokenizer_name", "tokenizer_kwargs"}
_HARMLESS |= {"timm_model_pretrained", "timm_drop", "timm_drop_path", "hf_model_pretrained"}
_VISION = {"image_size", "layers", "width", "head_width", "mlp_ratio", "patch_size"}
_TEXT = {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"}
_COCA = {"attentional_pool", "attn_pooler_queries", "attn_pooler_heads"}
# Width, depth, heads, MLP ratio and activation of timm's SigLIP towers.
_TIMM = {
    "base": (768, 12, 12, 4.0, "gelu"),
    "large": (1024, 24, 16, 4.0, "gelu"),
    "so400m": (1152, 27, 16, 3.7362, "gelu"),
    "giantopt": (1536, 40, 16, 4.0, "gelu_pytorch_tanh"),
}


def open_clip(config: dict[str, Any], tokenizer: str = "tokenizer.json") -> tuple[str, Settings]:
    """The layout of the weights and the settings, from a `model_cfg`.

    Raises UserError, naming the setting, where one is not supported.
    """
    if "multimodal_cfg" in config:
        _only(config["vision_cfg"], "vision_cfg", _VISION | _COCA)
        _only(config["text_cfg"], "text_cfg", _TEXT | {"embed_cls", "pad_id", "correct_cls_mask"})
        return "open_clip_coca", open_clip_coca(config, tokenizer)
    if "timm_model_name" in config["vision_cfg"]:
        return "open_clip_siglip", open_clip_siglip(config, tokenizer)
    layout = "open_clip_custom" if config.get("custom_text") else "openai_clip"
    return layout, open_clip_clip(config, tokenizer)


def open_clip_clip(config: dict[str, Any], tokenizer: str = "tokenizer.json") -> Settings:
    """Of open_clip's CLIP with a ViT and its own text tower, from a `model_cfg`."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    _only(vision, "vision_cfg", _VISION)
    _only(text, "text_cfg", _TEXT | {"eos_id", "pool_type"})
    if isinstance(vision.get("layers", 12), list):
        raise UserError("vision_cfg.layers is a list: a ResNet is not supported, only a ViT")
    activation = "quick_gelu" if config.get("quick_gelu") else "gelu"
    pool, size = text.get("pool_type", "argmax"), text.get("vocab_size", 49408)
    if pool not in ("argmax", "eos"):
        raise UserError(f"text_cfg.pool_type={pool!r} is not supported, only argmax and eos")

    def transformer(part: dict[str, Any], width: int, heads: int, **options: Any) -> Transformer:
        mlp = int(width * part.get("mlp_ratio", 4))
        sizes = {"width": width, "depth": part.get("layers", 12), "heads": heads, "mlp": mlp}
        return Transformer(**sizes, activation=activation, norm_eps=1e-5, **options)

    width, text_width = vision.get("width", 768), text.get("width", 512)
    image_size, length = _side(vision), text.get("context_length", 77)
    heads = width // vision.get("head_width", 64)
    towers = {
        "image": ImageTower(
            image_size=image_size,
            patch_size=vision.get("patch_size", 16),
            patch_bias=False,
            class_token=True,
            pre_norm=True,
            pooler="class",
            projection="linear",
            transformer=transformer(vision, width, heads, init="clip_image"),
        ),
        "text": TextTower(
            vocab_size=size,
            length=length,
            pooler="end" if pool == "eos" else "argmax",
            end_id=text.get("eos_id", 2) if pool == "eos" else size - 1,
            projection="linear",
            transformer=transformer(
                text, text_width, text.get("heads", 8), init="clip", causal=True
            ),
        ),
    }
    preprocessing = clip_preprocessing(image_size, length, tokenizer)
    return (
        DualEncoder(towers, embed=config["embed_dim"], logit_bias_init=_bias(config)),
        _cleaned(text, preprocessing),
    )


def open_clip_siglip(config: dict[str, Any], tokenizer: str = "tokenizer.json") -> Settings:
    """Of SigLIP with timm's image tower, from a `model_cfg`."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    name, image_size = vision["timm_model_name"], _side(vision)
    known = re.fullmatch(rf"vit_({'|'.join(_TIMM)})_patch(\d+)_siglip_(\d+)", name)
    if not known:
        raise UserError(f"vision_cfg.timm_model_name={name!r} is not supported, only SigLIP's")
    _only(vision, "vision_cfg", {"image_size", "timm_model_name", "timm_pool", "timm_proj"})
    asked = {"no_causal_mask": True, "proj_bias": True, "pool_type": "last"}
    _only(text, "text_cfg", _TEXT | asked.keys() | {"norm_kwargs", "act_kwargs"})
    for key, wanted in asked.items():
        if text.get(key) != wanted:
            raise UserError(f"text_cfg.{key}={text.get(key)!r} is not supported for SigLIP")
    for key, wanted in {"timm_pool": "map", "timm_proj": "none"}.items():
        if vision.get(key) != wanted:
            raise UserError(f"vision_cfg.{key}={vision.get(key)!r} is not supported for SigLIP")
    tanh = (text.get("act_kwargs") or {}).get("approximate") == "tanh"
    width, depth, heads, ratio, activation = _TIMM[known[1]]
    theirs = {
        "vision_config": _stack(width, depth, heads, ratio, activation, 1e-6)
        | {"image_size": image_size, "patch_size": int(known[2])},
        "text_config": _stack(
            text["width"],
            text["layers"],
            text["heads"],
            text.get("mlp_ratio", 4),
            "gelu_pytorch_tanh" if tanh else "gelu",
            (text.get("norm_kwargs") or {}).get("eps", 1e-5),
        )
        | {
            "vocab_size": text["vocab_size"],
            "max_position_embeddings": text["context_length"],
            "projection_size": config["embed_dim"],
        },
    }
    model, preprocessing = huggingface_siglip(theirs, tokenizer)
    if _bias(config) is None:
        model = dataclasses.replace(model, logit_bias_init=None)
    return model, _cleaned(text, preprocessing)


def _stack(
    width: int, depth: int, heads: int, ratio: float, activation: str, eps: float
) -> dict[str, Any]:
    """As Hugging Face names them."""
    return {
        "hidden_size": width,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "intermediate_size": int(width * ratio),
        "hidden_act": activation,
        "layer_norm_eps": eps,
    }


def _side(vision: dict[str, Any]) -> int:
    size = vision.get("image_size", 224)
    if not isinstance(size, int):
        raise UserError(f"vision_cfg.image_size={size}: only squares are supported")
    return size


def _bias(config: dict[str, Any]) -> float | None:
    bias = config.get("init_logit_bias")
    return None if bias is None else float(bias)


def _cleaned(text: dict[str, Any], preprocessing: Any) -> Any:
    """How texts are made equal before they are tokenised."""
    if "hf_tokenizer_name" not in text:
        return preprocessing
    clean = (text.get("tokenizer_kwargs") or {}).get("clean", "whitespace")
    if clean not in ("whitespace", "lower", "canonicalize"):
        raise UserError(f"text_cfg.tokenizer_kwargs.clean={clean!r} is not supported")
    changes = {"lowercase": clean != "whitespace", "canonicalize": clean == "canonicalize"}
    return dataclasses.replace(preprocessing, **changes)


def _only(part: dict[str, Any], where: str, known: set[str]) -> None:
    """Refuses settings that would change the model and are not understood."""
    for name, value in part.items():
        if name not in known | _HARMLESS and value not in (None, False, "", 0):
            raise UserError(f"{where}.{name}={value!r} of the imported config: not supported")
