"""Small models of every layout, with random parameters, and what others' files say of them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from multimodal import config
from multimodal.checkpoint.bundle import Checkpoints
from multimodal.config import to_dict
from multimodal.data.tokenizers import describe_tokenizer, load_tokenizer
from multimodal.data.tokenizers.train import train_clip
from multimodal.interop import SETTINGS
from multimodal.models.build import build

CAPTIONS = ["a photo of a cat", "two dogs in the rain", "the naïve café owner's 3 buses"] * 3
TEXT = {
    "vocab_size": 548,  # as many as `clip_tokenizer` finds
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "max_position_embeddings": 16,
    "eos_token_id": 547,
}
VISION = {
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 36,
    "image_size": 32,
    "patch_size": 8,
    "num_patches": 16,
}
LAYOUTS = ("bert", "clip", "siglip", "siglip2", "vit")


def their_config(kind, act="gelu"):
    """What matters of the config.json of a small model of `model_type` KIND."""
    text, vision = TEXT | {"hidden_act": act}, VISION | {"hidden_act": act}
    towers = {"text_config": text, "vision_config": vision, "projection_dim": 12}
    return {"bert": text, "vit": vision | {"num_labels": 5}}.get(kind, towers)


def small(kind, tokenizer="bytes", act="gelu"):
    """Settings, preprocessing and random parameters that make outputs differ."""
    settings, preprocessing = SETTINGS[f"huggingface_{kind}"](their_config(kind, act))
    preprocessing = dataclasses.replace(preprocessing, tokenizer=str(tokenizer))
    return settings, preprocessing, random_params(settings, preprocessing)


def random_params(settings, preprocessing, scale=0.3):
    rng = np.random.default_rng(0)
    shapes = build(settings, preprocessing, "float32").shapes()
    return {p: rng.normal(size=x.shape, scale=scale).astype(np.float32) for p, x in shapes.items()}


def clip_tokenizer(folder):
    """A vocabulary of CLIP's form in 548 tokens, the last of which ends a text."""
    path = folder / "tokenizer.json"
    path.write_bytes(train_clip(CAPTIONS, 548))
    return path


def save_run(folder, settings, preprocessing, params, step=7, **changes):
    """A run folder with one checkpoint of these parameters."""
    run = config.Config("small", settings, {}, preprocessing, **changes)
    tokenizer = load_tokenizer(preprocessing.tokenizer, preprocessing.pad_id)
    meta = {
        "positions": {},
        "config": to_dict(run),
        "preprocessing": to_dict(preprocessing),
        "tokenizer": describe_tokenizer(tokenizer),
    }
    checkpoints = Checkpoints(folder / "checkpoints", run.checkpoints)
    files = dict([tokenizer.file] if tokenizer.file else [])
    checkpoints.save(
        step, {"params": jax.tree.map(jnp.asarray, params)}, meta, force=True, files=files
    )
    checkpoints.close()
    return folder
