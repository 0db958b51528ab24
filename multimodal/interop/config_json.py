"""Our settings as other people's config.json: the inverse of `settings`.

What one of their classes cannot express is found by the way back: the config.json is read again as
an import would, and a setting that comes out otherwise is refused by its name. So a table of what
each class can do is kept nowhere but in `settings`.
"""

from collections.abc import Callable, Sequence
from typing import Any

from multimodal.config import (
    Bert,
    DualEncoder,
    ImageTower,
    Model,
    TextTower,
    Transformer,
)
from multimodal.errors import UserError
from multimodal.interop.huggingface import ACTIVATIONS
from multimodal.interop.open_clip import open_clip_clip
from multimodal.interop.settings import SETTINGS
from multimodal.schema import to_dict

THEIR_ACTIVATION = {ours: theirs for theirs, ours in reversed(ACTIVATIONS.items())}
Table = dict[str, Any]

_LARGEST = 2  # an end token that is none: CLIPModel pools at the largest id then

# They shape training, or how something is computed, and nothing of what an exported model says.
_WITHOUT_EFFECT = {
    "init",
    "dropout",
    "attention_dropout",
    "drop_path",
    "patch_dropout",
    "keep",
    "scan",
    "attention",
    "logit_scale_init",
    "logit_scale_max",
    "head_bias_init",
}


def huggingface_clip(model: DualEncoder) -> Table:
    """Of a CLIPModel."""
    image, text = model.towers["image"], model.towers["text"]
    if text.pooler == "end" and text.end_id == _LARGEST:
        raise UserError(
            f"config.model.towers.text.end_id={_LARGEST}: to CLIPModel of transformers that number "
            "says that texts are read at their largest id, so the model cannot be exported to it"
        )
    end = _LARGEST if text.pooler == "argmax" else text.end_id
    return {
        "model_type": "clip",
        "architectures": ["CLIPModel"],
        "projection_dim": model.embed,
        "logit_scale_init_value": model.logit_scale_init,
        "text_config": {
            "model_type": "clip_text_model",
            "projection_dim": model.embed,
            **_text(text),
            "eos_token_id": end,
        },
        "vision_config": {
            "model_type": "clip_vision_model",
            "projection_dim": model.embed,
            **_vision(image),
        },
    }


def huggingface_siglip(model: DualEncoder) -> Table:
    """Of a SiglipModel."""
    image, text = model.towers["image"], model.towers["text"]
    return {
        "model_type": "siglip",
        "architectures": ["SiglipModel"],
        "text_config": {
            "model_type": "siglip_text_model",
            "projection_size": model.embed,
            **_text(text),
        },
        "vision_config": {"model_type": "siglip_vision_model", **_vision(image)},
    }


def huggingface_siglip2(model: DualEncoder) -> Table:
    """Of a Siglip2Model (NaFlex); the number of patches is that of the learnt grid."""
    config = huggingface_siglip(model)
    vision = config["vision_config"]
    side = vision.pop("image_size") // vision["patch_size"]
    vision |= {"model_type": "siglip2_vision_model", "num_patches": side * side}
    config["text_config"]["model_type"] = "siglip2_text_model"
    return config | {"model_type": "siglip2", "architectures": ["Siglip2Model"]}


def huggingface_vit(model: DualEncoder, classes: Sequence[str] = ()) -> Table:
    """Of a ViTForImageClassification, with the names of its classes where they are known."""
    names = dict(enumerate(classes or (f"LABEL_{i}" for i in range(model.embed))))
    return {
        "model_type": "vit",
        "architectures": ["ViTForImageClassification"],
        **_vision(model.towers["image"]),
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "qkv_bias": True,
        "id2label": {str(i): name for i, name in names.items()},
        "label2id": {name: i for i, name in names.items()},
    }


def huggingface_bert(model: Bert) -> Table:
    """Of a BertForPreTraining."""
    text = model.text
    return {
        "model_type": "bert",
        "architectures": ["BertForPreTraining"],
        **_text(text),
        "pad_token_id": text.pad_id,
        "hidden_dropout_prob": text.transformer.dropout,
        "attention_probs_dropout_prob": text.transformer.attention_dropout,
        "type_vocab_size": text.token_types,
        "position_embedding_type": "absolute",
    }


def open_clip(model: DualEncoder) -> Table:
    """The `model_cfg` of an open_clip_config.json, of CLIP with a ViT and a tokenizer beside it."""
    image, text = model.towers["image"], model.towers["text"]
    width, heads = image.transformer.width, image.transformer.heads
    ends = {"pool_type": "eos", "eos_id": text.end_id} if text.pooler == "end" else {}
    bias = {} if model.logit_bias_init is None else {"init_logit_bias": model.logit_bias_init}
    return bias | {
        "embed_dim": model.embed,
        "quick_gelu": image.transformer.activation == "quick_gelu",
        "vision_cfg": {
            "image_size": image.image_size,
            "patch_size": image.patch_size,
            "head_width": width // heads,
            **_open_clip_stack(image.transformer),
        },
        "text_cfg": {
            "context_length": text.length,
            "vocab_size": text.vocab_size,
            "heads": text.transformer.heads,
            "hf_tokenizer_name": "in this folder",
            **_open_clip_stack(text.transformer),
            **ends,
        },
    }


CONFIGS: dict[str, Callable[..., Table]] = {
    "huggingface_bert": huggingface_bert,
    "huggingface_clip": huggingface_clip,
    "huggingface_siglip": huggingface_siglip,
    "huggingface_siglip2": huggingface_siglip2,
    "huggingface_vit": huggingface_vit,
}


def config_json(
    layout: str, model: Model, special: Table | None = None, classes: Sequence[str] = ()
) -> Table:
    """The config.json of `model` in `layout`, with the ids of `special` tokens and the names of a
    classifier's `classes`. Raises UserError, naming the setting, for what their class cannot
    express."""
    facts = {"classes": classes} if layout == "huggingface_vit" else {}
    config = CONFIGS[layout](model, **facts)
    if "text_config" in config:
        config["text_config"] = (special or {}) | config["text_config"]
    back, _ = SETTINGS[layout](config)
    _refuse_differences(model, back, f"{config['architectures'][0]} of transformers")
    return config


def open_clip_config(model: DualEncoder) -> Table:
    """The same for the `model_cfg` of open_clip's CLIP. Raises UserError as `config_json` does."""
    config = open_clip(model)
    back, _ = open_clip_clip(config)
    _refuse_differences(model, back, "CLIP of open_clip")
    return config


def _refuse_differences(ours: Model, theirs: Model, whose: str) -> None:
    for path, wanted, found in differences(ours, theirs):
        raise UserError(
            f"{path}={wanted!r}: {whose} has {found!r} there, so the model cannot be exported to it"
        )


def differences(ours: Model, theirs: Model) -> list[tuple[str, Any, Any]]:
    """(setting, ours, theirs) where two models with the same parameters would not say the same."""
    return [
        (path, a, b)
        for path, a, b in _pairs(to_dict(ours), to_dict(theirs), "config.model")
        if a != b and not _idle(path, ours, a, b)
    ]


def _pairs(ours: Any, theirs: Any, path: str) -> list[tuple[str, Any, Any]]:
    if not (isinstance(ours, dict) and isinstance(theirs, dict)):
        return [(path, ours, theirs)]
    found = []
    for name in ours.keys() | theirs.keys():
        found += _pairs(ours.get(name), theirs.get(name), f"{path}.{name}")
    return sorted(found, key=lambda pair: pair[0])


def _idle(path: str, model: Model, ours: Any, theirs: Any) -> bool:
    """Whether a setting that differs has no effect on what the model says."""
    *_, part, name = path.split(".")
    if name in _WITHOUT_EFFECT:
        return True
    if name in ("logit_bias_init", "max_patches"):  # whether there is one is what counts
        return (ours is None) == (theirs is None)
    text = model.text if isinstance(model, Bert) else getattr(model, "towers", {}).get("text")
    if name == "pooler" and {ours, theirs} == {"end", "argmax"}:  # the same, as CLIP's end is last
        return text.end_id == text.vocab_size - 1
    if part != "text" or text is None:
        return False
    reads_end = text.pooler in ("end", "argmax")
    match name:
        case "end_id":
            return text.pooler != "end"
        case "mask_padding":  # what comes after the end is not looked at
            return reads_end and text.transformer.causal
        case "pad_id":
            return not text.mask_padding or (reads_end and text.transformer.causal)
    return False


def _text(tower: TextTower) -> Table:
    return {
        "vocab_size": tower.vocab_size,
        "max_position_embeddings": tower.length,
        **_transformer(tower.transformer),
    }


def _vision(tower: ImageTower) -> Table:
    return {
        "image_size": tower.image_size,
        "patch_size": tower.patch_size,
        "num_channels": 3,
        **_transformer(tower.transformer),
    }


def _open_clip_stack(t: Transformer) -> Table:
    ratio = t.mlp / t.width
    if int(t.width * ratio) != t.mlp:  # they round down
        ratio = (t.mlp + 0.5) / t.width
    return {"width": t.width, "layers": t.depth, "mlp_ratio": ratio}


def _transformer(t: Transformer) -> Table:
    return {
        "hidden_size": t.width,
        "num_hidden_layers": t.depth,
        "num_attention_heads": t.heads,
        "intermediate_size": t.mlp,
        "hidden_act": THEIR_ACTIVATION[t.activation],
        "layer_norm_eps": t.norm_eps,
        "attention_dropout": 0.0,
    }
