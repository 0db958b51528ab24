"""What both sides of a comparison train: shapes by name, as a run of ours and as Hugging Face's
config.json, and a batch of noise for them."""

from typing import Any

import numpy as np

from multimodal import recipe, zoo
from multimodal.config import Config, DualEncoder
from multimodal.pretraining import clip_optimizer

NAMES = ("tiny", "b32")
LARGE = ("ViT-B-32", "ViT-B-16", "ViT-L-14", "SO400M-14", "ViT-g-14")


def named(shape: str, **stacks: Any) -> dict[str, dict[str, Any]]:
    """{"model", "preprocessing"} of one of NAMES or LARGE, or of "tiny-siglip", `stacks` setting
    options of its Transformers."""
    if shape in zoo.SIGLIP:
        return zoo.siglip(shape, **stacks)
    if not shape.startswith("tiny"):
        return zoo.clip("ViT-B-32" if shape == "b32" else shape, **stacks)
    values = zoo.clip("ViT-B-32") if shape == "tiny" else zoo.siglip("B-16")
    model, preprocessing = values["model"], values["preprocessing"]
    image, text = model["towers"]["image"], model["towers"]["text"]
    sizes = {"width": 192, "depth": 4, "heads": 3, "mlp": 768} | stacks
    image |= {"image_size": 64, "patch_size": 8, "transformer": image["transformer"] | sizes}
    if shape == "tiny":
        sizes |= {"width": 128, "heads": 2, "mlp": 512}
        text |= {"end_id": 4095, "pad_id": 4095}
    text |= {"vocab_size": 4096, "length": 32, "transformer": text["transformer"] | sizes}
    return {
        "model": model | {"embed": 128 if shape == "tiny" else 192},
        "preprocessing": preprocessing | {"image_size": 64, "length": 32},
    }


def run(values: dict[str, dict[str, Any]], batch_size: int, dtype: str = "float32") -> Config:
    """A checked run of a model, as `named` gives it, on pairs that are never read: one learning
    rate, AdamW as for CLIP, and the loss whose bias the model has or has not."""
    source = {"kind": "tar", "path": "none.tar"}
    data = {"source": source, "fields": {"image": "jpg", "text": "txt"}}
    loss = "softmax" if values["model"].get("logit_bias_init") is None else "sigmoid"
    objectives = {"contrastive": {"kind": "contrastive", "loss": loss}}
    values = values | {
        "name": "benchmark",
        "batch_size": batch_size,
        "dtype": dtype,
        "tasks": {"pairs": {"data": data, "objectives": objectives}},
        "optimizer": clip_optimizer(1e-4, warmup_steps=0) | {"schedule": "constant"},
    }
    return recipe.finish(recipe.resolve(values))


def huggingface(model: DualEncoder) -> dict[str, Any]:
    """The same model as the config.json of a CLIPModel."""
    image, text = model.towers["image"], model.towers["text"]

    def tower(part: Any, **more: Any) -> dict[str, Any]:
        t = part.transformer
        return {
            "hidden_size": t.width,
            "num_hidden_layers": t.depth,
            "num_attention_heads": t.heads,
            "intermediate_size": t.mlp,
            "hidden_act": t.activation,
            "layer_norm_eps": t.norm_eps,
            "projection_dim": model.embed,
        } | more

    return {
        "projection_dim": model.embed,
        "logit_scale_init_value": model.logit_scale_init,
        "vision_config": tower(image, image_size=image.image_size, patch_size=image.patch_size),
        "text_config": tower(
            text,
            vocab_size=text.vocab_size,
            max_position_embeddings=text.length,
            eos_token_id=text.end_id,
            pad_token_id=text.pad_id,
            bos_token_id=text.vocab_size - 2,
        ),
    }


def batch(config: Config, seed: int = 0) -> dict[str, np.ndarray]:
    """Pictures of noise and texts of random ids and lengths, as a run's batch holds them."""
    rng, p = np.random.default_rng(seed), config.preprocessing
    text_tower, size = config.model.towers["text"], config.batch_size
    text = rng.integers(0, min(text_tower.vocab_size, text_tower.end_id), (size, p.length))
    length = rng.integers(2, p.length, size)[:, None]
    text[np.arange(p.length) == length] = text_tower.end_id
    text[np.arange(p.length) > length] = text_tower.pad_id
    return {
        "image": rng.integers(0, 256, (size, p.image_size, p.image_size, 3), np.uint8),
        "text": text.astype(np.int32),
        "valid": np.ones(size, np.bool_),
    }


def normalised(images: np.ndarray, config: Config) -> np.ndarray:
    """Bytes [batch, height, width, 3] as the other side's loader hands them over: float32
    [batch, 3, height, width]."""
    p = config.preprocessing
    mean, std = (np.asarray(x, np.float32) for x in (p.mean, p.std))
    pixels = (images.astype(np.float32) / 255 - mean) / std
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
