"""Folders as other libraries write them, of the golden files and of random weights."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from multimodal.interop import SETTINGS, export_weights
from multimodal.models.build import build
from tests.goldens.golden import Golden

START, END = "<|startoftext|>", "<|endoftext|>"
# Of a golden set: the layout of its weights.
GOLDENS = {
    "clip_gelu": "huggingface_clip",
    "clip_quickgelu": "huggingface_clip",
    "siglip": "huggingface_siglip",
    "siglip2_naflex": "huggingface_siglip2",
    "vit": "huggingface_vit",
    "bert_pretrain": "huggingface_bert",
}
TEXT = {
    "vocab_size": 40,
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 20,
    "max_position_embeddings": 8,
    "eos_token_id": 39,
}
VISION = TEXT | {"hidden_size": 16, "num_attention_heads": 2, "image_size": 16, "patch_size": 8}
CLIP = {"model_type": "clip", "text_config": TEXT, "vision_config": VISION, "projection_dim": 12}
CLIP_PICTURES = {
    "do_center_crop": True,
    "crop_size": {"height": 16, "width": 16},
    "size": {"shortest_edge": 16},
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
}


def words(size: int, end: int, first: str = "w0") -> bytes:
    """A tokenizer.json of `size` words, `first` and others, one of which, `end`, ends a text."""
    ids = {first: 0} | {f"w{i}": i for i in range(1, size) if i not in (end, end - 1)}
    backend = Tokenizer(models.WordLevel(ids | {START: end - 1, END: end}, unk_token=END))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.BertProcessing((END, end), (START, end - 1))
    return backend.to_str().encode()


def write(
    folder: Path, config: dict, weights: dict, pictures: dict | None = None, **files: bytes
) -> Path:
    """A folder of Hugging Face's form."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(weights, folder / "model.safetensors")
    if pictures is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(pictures))
    for name, content in files.items():
        (folder / f"{name}.json").write_bytes(content)
    return folder


def random_clip(folder: Path, **changes: dict) -> Path:
    """A small random CLIP; `changes` are of config and pictures, by setting."""
    config = CLIP | {"text_config": TEXT | changes.pop("text_config", {})} | changes
    model = build(*SETTINGS["huggingface_clip"](CLIP), "float32")
    rng = np.random.default_rng(0)
    params = {p: rng.normal(size=x.shape).astype(np.float32) for p, x in model.shapes().items()}
    weights = export_weights("huggingface_clip", params)
    return write(folder, config, weights, CLIP_PICTURES, tokenizer=words(40, 39))


def golden_folder(folder: Path, name: str, golden: Golden) -> Path:
    """A golden set as a folder of Hugging Face's form."""
    sizes = golden.config["config"]
    kind = GOLDENS[name].removeprefix("huggingface_")
    if kind in ("vit", "bert"):
        config = sizes["model"]
        text = config
    else:
        act = {"hidden_act": sizes["act"]} if "act" in sizes else {}
        config = {"text_config": sizes["text"] | act, "vision_config": sizes["vision"] | act}
        config |= {k: sizes[k] for k in ("projection_dim",) if k in sizes}
        text = sizes["text"]
    end = text.get("eos_token_id", 2)
    size = text.get("vocab_size", 32)
    end = end if 2 < end < size else size - 1
    files = (
        {}
        if kind == "vit"
        else {"tokenizer": words(size, end, "[PAD]" if kind == "bert" else "w0")}
    )
    return write(folder, {"model_type": kind} | config, golden.weights, **files)
