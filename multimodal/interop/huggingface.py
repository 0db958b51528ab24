"""Settings of Hugging Face's models as ours: what stands in their config.json, and what goes
without saying there (pooling, norms, preprocessing)."""

import dataclasses
import math
from typing import Any

from multimodal.config import Bert, DualEncoder, ImageTower, TextTower, Transformer
from multimodal.errors import UserError
from multimodal.interop.openai import Settings, clip_preprocessing
from multimodal.preprocessing import Preprocessing

ACTIVATIONS = {
    "gelu": "gelu",
    "quick_gelu": "quick_gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
}


def huggingface_clip(config: dict[str, Any], tokenizer: str = "tokenizer.json") -> Settings:
    """Of a CLIPModel, from its config.json."""
    text, vision = config["text_config"], config["vision_config"]
    image_size, length = vision.get("image_size", 224), text.get("max_position_embeddings", 77)
    end, size = text.get("eos_token_id", 49407), text.get("vocab_size", 49408)
    # Early configs say 2, which is not the end token: the largest id is.
    pooler, end = ("argmax", size - 1) if end == 2 else ("end", end)
    defaults = {"act": "quick_gelu", "eps": 1e-5}
    towers = {
        "image": ImageTower(
            image_size=image_size,
            patch_size=vision.get("patch_size", 32),
            patch_bias=False,
            class_token=True,
            pre_norm=True,
            pooler="class",
            projection="linear",
            transformer=_transformer(vision, (768, 12, 12, 3072), init="clip_image", **defaults),
        ),
        "text": TextTower(
            vocab_size=size,
            length=length,
            pooler=pooler,
            end_id=end,
            pad_id=end,  # as their tokenizer does, whatever stands in the config
            projection="linear",
            transformer=_transformer(
                text, (512, 12, 8, 2048), init="clip", causal=True, **defaults
            ),
        ),
    }
    embed = config.get("projection_dim", 512)
    return DualEncoder(towers, embed=embed), clip_preprocessing(image_size, length, tokenizer)


def huggingface_siglip(config: dict[str, Any], tokenizer: str = "tokenizer.json") -> Settings:
    """Of a SiglipModel, from its config.json."""
    text, vision = config["text_config"], config["vision_config"]
    length, patch = text.get("max_position_embeddings", 64), vision.get("patch_size", 16)
    # 384 pixels in patches of 14: the rest is not looked at.
    image_size = vision.get("image_size", 224) // patch * patch
    # SigLIP 2 of fixed size has Gemma's vocabulary, and texts as they are but for the case.
    size = text.get("vocab_size", 32000)
    is_gemma = size == 256000
    pad = 0 if is_gemma else text.get("pad_token_id", 1)
    sizes, defaults = (768, 12, 12, 3072), {"act": "gelu_pytorch_tanh", "eps": 1e-6}
    towers = {
        "image": ImageTower(
            image_size=image_size,
            patch_size=patch,
            pooler="map",
            transformer=_transformer(vision, sizes, init="vit", **defaults),
        ),
        "text": TextTower(
            vocab_size=size,
            length=length,
            pooler="last",
            end_id=1,
            pad_id=pad,
            projection="linear_bias",
            transformer=_transformer(text, sizes, init="vit", **defaults),
        ),
    }
    embed = text.get("projection_size", text.get("hidden_size", 768))
    preprocessing = Preprocessing(
        image_size=image_size,
        resize="squash",
        tokenizer=tokenizer,
        canonicalize=not is_gemma,
        length=length,
        pad_id=pad,
        add_start=False,
    )
    model = DualEncoder(
        towers, embed=embed, logit_scale_init=2.3025851, logit_scale_max=None, logit_bias_init=-10.0
    )
    return model, preprocessing


def huggingface_siglip2(config: dict[str, Any], tokenizer: str = "tokenizer.json") -> Settings:
    """Of a Siglip2Model (NaFlex), from its config.json. The number of patches of a picture is not
    said there: it is set to that of the learnt grid, and may be another."""
    vision = config["vision_config"]
    patch, patches = vision.get("patch_size", 16), vision.get("num_patches", 256)
    square = vision | {"patch_size": patch, "image_size": math.isqrt(patches) * patch}
    texts = {"vocab_size": 256000} | config["text_config"]  # Gemma's, where it is left out
    theirs = config | {"vision_config": square, "text_config": texts}
    model, preprocessing = huggingface_siglip(theirs, tokenizer)
    image = dataclasses.replace(model.towers["image"], max_patches=patches)
    text = model.towers["text"]
    flexible = {"max_patches": patches, "patch_size": patch, "interpolation": "bilinear"}
    return (
        dataclasses.replace(model, towers={"image": image, "text": text}),
        dataclasses.replace(preprocessing, canonicalize=False, **flexible),
    )


def huggingface_vit(config: dict[str, Any], tokenizer: str = "tokenizer.json") -> Settings:
    """Of a ViTForImageClassification: one tower, whose embedding is the logits."""
    classes = config.get("num_labels") or len(config.get("id2label", ())) or 2
    image_size = config.get("image_size", 224)
    tower = ImageTower(
        image_size=image_size,
        patch_size=config.get("patch_size", 16),
        patch_bias=True,
        class_token=True,
        pooler="class",
        projection="linear_bias",
        transformer=_transformer(config, (768, 12, 12, 3072), init="vit", act="gelu", eps=1e-12),
    )
    preprocessing = Preprocessing(
        image_size=image_size, resize="squash", interpolation="bilinear", tokenizer=tokenizer
    )
    return DualEncoder({"image": tower}, embed=classes, pairs=()), preprocessing


def huggingface_bert(config: dict[str, Any], tokenizer: str = "tokenizer.json") -> Settings:
    """Of a BertForPreTraining, from its config.json."""
    length = config.get("max_position_embeddings", 512)
    rates = {
        "dropout": config.get("hidden_dropout_prob", 0.1),
        "attention_dropout": config.get("attention_probs_dropout_prob", 0.1),
    }
    text = TextTower(
        vocab_size=config.get("vocab_size", 30522),
        length=length,
        pooler="none",
        pad_id=config.get("pad_token_id", 0),
        mask_padding=True,
        token_types=config.get("type_vocab_size", 2),
        embedding_norm=True,
        final_norm=False,
        projection="none",
        transformer=_transformer(
            config,
            (768, 12, 12, 3072),
            init="bert",
            act="gelu",
            eps=1e-12,
            norm_position="post",
            **rates,
        ),
    )
    return Bert(text), Preprocessing(tokenizer=tokenizer, length=length)


def _transformer(
    config: dict[str, Any],
    sizes: tuple[int, int, int, int],  # width, depth, heads, mlp where theirs are left out
    *,
    act: str,
    eps: float,
    **options: Any,
) -> Transformer:
    width, depth, heads, mlp = sizes
    activation = config.get("hidden_act", act)
    if activation not in ACTIVATIONS:
        known = ", ".join(sorted(ACTIVATIONS))
        raise UserError(f"hidden_act {activation!r} of the imported config; known: {known}")
    return Transformer(
        width=config.get("hidden_size", width),
        depth=config.get("num_hidden_layers", depth),
        heads=config.get("num_attention_heads", heads),
        mlp=config.get("intermediate_size", mlp),
        activation=ACTIVATIONS[activation],
        norm_eps=config.get("layer_norm_eps", eps),
        **options,
    )
