"""An exported folder and the model that it comes from on the same random input, where torch and
transformers are installed."""

import importlib.util
from pathlib import Path
from typing import Any

import jax
import numpy as np

from multimodal import config
from multimodal.errors import UserError
from multimodal.interop.export import Exported
from multimodal.models.build import build
from multimodal.preprocessing import Preprocessing

TOLERANCE = 1e-4
Arrays = dict[str, np.ndarray]


def missing_packages(to: str = "hf") -> list[str]:
    """What would have to be installed for `compare`."""
    wanted = ["torch", "open_clip" if to == "open_clip" else "transformers"]
    return [name for name in wanted if importlib.util.find_spec(name) is None]


def compare(exported: Exported, preprocessing: Preprocessing, folder: Path) -> dict[str, float]:
    """The largest absolute difference of each output, both sides in float32.

    Raises UserError when one is above TOLERANCE, or when the folder has tensors that their class
    does not read, or lacks some.
    """
    batch = _random_batch(exported.model, preprocessing)
    ours = _ours(exported, preprocessing, batch)
    theirs = _theirs(exported.layout, batch, folder)
    found = {name: float(np.abs(ours[name] - theirs[name]).max()) for name in ours}
    for name, difference in found.items():
        if not difference <= TOLERANCE:  # nor NaN
            raise UserError(
                f"{folder}: {name} differs by {difference:.2g} from the model's own on random "
                f"input, more than {TOLERANCE:g}; do not use the folder"
            )
    return found


def _random_batch(model: config.Model, preprocessing: Preprocessing, rows: int = 3) -> Arrays:
    rng = np.random.default_rng(0)
    batch: Arrays = {}
    text = model.text if isinstance(model, config.Bert) else model.towers.get("text")
    image = getattr(model, "towers", {}).get("image")
    if text:
        ids = rng.integers(0, text.vocab_size, (rows, text.length)).astype(np.int32)
        if text.pooler == "end":
            ids[ids == text.end_id] = 0
            ids[np.arange(rows), rng.integers(1, text.length, rows)] = text.end_id
        batch["text"] = ids
    if image and image.max_patches is None:
        shape = (rows, image.image_size, image.image_size, 3)
        batch["image"] = rng.normal(size=shape).astype(np.float32)
    elif image:
        most, width = preprocessing.max_patches, image.patch_size**2 * 3
        side = int(most**0.5)
        grids = [(side, side), (1, most), (max(side // 2, 1), side)]
        batch["grid"] = np.array(grids[:rows], np.int32)
        batch["patches"] = rng.normal(size=(rows, most, width)).astype(np.float32)
    return batch


def _ours(exported: Exported, preprocessing: Preprocessing, batch: Arrays) -> Arrays:
    model = build(exported.model, preprocessing, "float32")
    inputs: dict[str, Any] = {name: batch[name] for name in ("text", "image") if name in batch}
    if "patches" in batch:
        inputs["image"] = {name: batch[name] for name in ("patches", "grid")}
    single = exported.layout == "huggingface_vit"

    @jax.jit
    def run(params: Any) -> Any:
        bound = model.bind(params)
        # A classifier's logits are not of unit length.
        return bound.towers["image"](inputs["image"]) if single else bound(inputs)

    with jax.default_matmul_precision("highest"):
        outputs = jax.device_get(run(dict(exported.params)))
    if single:
        return {"logits": outputs["embedding"]}
    if "word_logits" in outputs:
        return {name: outputs[name] for name in ("word_logits", "match_logits")}
    temperature = outputs["temperature"]["image-text"]
    logits = outputs["image"] @ outputs["text"].T * np.exp(temperature["log_scale"])
    logits += temperature.get("bias", 0)
    return {"image": outputs["image"], "text": outputs["text"], "logits": logits}


def _theirs(layout: str, batch: Arrays, folder: Path) -> Arrays:
    import torch

    if layout == "openai_clip":
        return _open_clips(batch, folder)

    model = _load(layout, folder)
    inputs: dict[str, Any] = {}
    if "text" in batch:
        inputs["input_ids"] = torch.from_numpy(batch["text"].astype(np.int64))
    if layout == "huggingface_bert":
        inputs["attention_mask"] = (inputs["input_ids"] != model.config.pad_token_id).long()
    if "image" in batch:
        inputs["pixel_values"] = torch.from_numpy(batch["image"].transpose(0, 3, 1, 2).copy())
    if "patches" in batch:
        real = np.arange(batch["patches"].shape[1]) < batch["grid"].prod(1)[:, None]
        inputs["pixel_values"] = torch.from_numpy(batch["patches"])
        inputs["spatial_shapes"] = torch.from_numpy(batch["grid"].astype(np.int64))
        inputs["pixel_attention_mask"] = torch.from_numpy(real.astype(np.int64))
    with torch.no_grad():
        outputs = model(**inputs)
    names = {
        "huggingface_vit": {"logits": "logits"},
        "huggingface_bert": {
            "word_logits": "prediction_logits",
            "match_logits": "seq_relationship_logits",
        },
    }
    pair = {"image": "image_embeds", "text": "text_embeds", "logits": "logits_per_image"}
    return {
        ours: getattr(outputs, theirs).numpy() for ours, theirs in names.get(layout, pair).items()
    }


def _open_clips(batch: Arrays, folder: Path) -> Arrays:
    import torch

    open_clip = importlib.import_module("open_clip")  # declared nowhere: for those who have it
    model = open_clip.create_model(f"local-dir:{folder}", precision="fp32").eval()
    with torch.no_grad():
        image = torch.from_numpy(batch["image"].transpose(0, 3, 1, 2).copy())
        image = model.encode_image(image, normalize=True)
        text = model.encode_text(torch.from_numpy(batch["text"].astype(np.int64)), normalize=True)
        logits = model.logit_scale.exp() * image @ text.T
        if model.logit_bias is not None:
            logits += model.logit_bias
    return {"image": image.numpy(), "text": text.numpy(), "logits": logits.numpy()}


def _load(layout: str, folder: Path) -> Any:
    import transformers

    kind = {
        "huggingface_vit": transformers.AutoModelForImageClassification,
        "huggingface_bert": transformers.AutoModelForPreTraining,
    }.get(layout, transformers.AutoModel)
    model, told = kind.from_pretrained(
        str(folder), output_loading_info=True, local_files_only=True, dtype="float32"
    )
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if told.get(what):
            raise UserError(f"{folder}: {what.replace('_', ' ')}: {sorted(told[what])[:3]}")
    return model.eval()
