"""A run's model as a folder that transformers or open_clip load."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from multimodal import config
from multimodal.data.tokenizers import load_tokenizer
from multimodal.errors import UserError
from multimodal.interop.config_json import config_json, open_clip_config
from multimodal.interop.convert import export_weights
from multimodal.interop.processor_json import huggingface_processor, open_clip_preprocess
from multimodal.interop.shards import LARGEST, save_weights
from multimodal.interop.tokenizer_files import special_ids, tokenizer_files
from multimodal.preprocessing import Preprocessing

Params = Mapping[str, Any]


TARGETS = {"hf": "transformers", "open_clip": "open_clip"}


class Exported(NamedTuple):
    """What a folder holds: a model in `layout`, without what is used in training alone, whose paths
    begin with `left_out`; how many tensors in how many files."""

    layout: str
    model: config.Model
    params: Params
    left_out: list[str]
    tensors: int
    files: int

    def __str__(self) -> str:
        count = sum(math.prod(x.shape) for x in self.params.values())
        told = f"{count:,} parameters in {self.tensors} tensors, {self.files} file(s) of weights"
        left = ", ".join(self.left_out)
        return told + (f"; left out, used in training alone: {left}" if left else "")


class Plain(NamedTuple):
    """A model as others have it, see `Exported`."""

    layout: str
    model: config.Model
    params: Params
    left_out: list[str]


def export_model(
    model: config.Model,
    preprocessing: Preprocessing,
    params: Params,
    out: Path,
    *,
    to: str = "hf",
    classes: Sequence[str] = (),
    largest: int = LARGEST,
) -> Exported:
    """Writes weights, settings and tokenizer into the new folder `out`; `classes` names those of a
    classifier, and files of weights hold at most `largest` bytes.

    Raises UserError, naming the setting, for a model that their classes cannot express; nothing is
    written then.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out={out}: is there already; name a new folder")
    layout, model, params, left_out = as_theirs(model, params, to)
    _check_sizes(model, preprocessing)
    special, files = {}, {}
    if to == "hf" and layout != "huggingface_bert":
        processor = huggingface_processor(layout, preprocessing)
        files["preprocessor_config.json"] = _json(processor)
    if layout != "huggingface_vit":
        tokenizer = load_tokenizer(preprocessing.tokenizer, preprocessing.pad_id)
        special = special_ids(tokenizer)
        files |= tokenizer_files(layout, tokenizer, preprocessing)
    if to == "hf":
        files["config.json"] = _json(config_json(layout, model, special, classes))
    else:
        pictures = open_clip_preprocess(preprocessing)
        told = {"model_cfg": open_clip_config(model), "preprocess_cfg": pictures}
        files["open_clip_config.json"] = _json(told)
    tensors = export_weights(layout, {path: np.asarray(x) for path, x in params.items()})
    out.mkdir(parents=True, exist_ok=True)
    name = "model" if to == "hf" else "open_clip_model"
    written = save_weights(out, tensors, name, largest)
    for name, content in files.items():
        (out / name).write_bytes(content)
    return Exported(layout, model, params, left_out, len(tensors), len(written))


def as_theirs(model: config.Model, params: Params, to: str) -> Plain:
    """The layout of a model and its parameters there. Raises UserError for a model of a kind that
    they do not have."""
    if to == "open_clip":
        return _open_clip(model, params)
    match model:
        case config.Bert():
            return Plain("huggingface_bert", model, params, [])
        case config.Classifier():
            return _classifier(model, params)
        case config.DualEncoder():
            plain = for_inference(model)
            return Plain(_dual_layout(plain), plain, *_without_training_parts(params))
    raise UserError(
        f"config.model.kind={model.kind!r}: transformers has no such class, so it is not exported"
    )


def _open_clip(model: config.Model, params: Params) -> Plain:
    plain = for_inference(model)
    if not isinstance(plain, config.DualEncoder) or _dual_layout(plain) != "huggingface_clip":
        raise UserError(
            f"config.model.kind={model.kind!r}: only a dual encoder of CLIP's form, read at its "
            "class token, is exported for open_clip"
        )
    return Plain("openai_clip", plain, *_without_training_parts(params))


def _without_training_parts(params: Params) -> tuple[Params, list[str]]:
    kept = {name: x for name, x in params.items() if name.startswith(("towers/", "temperature/"))}
    return kept, sorted({name.split("/")[0] for name in params.keys() - kept.keys()})


def for_inference(model: config.Model) -> config.Model:
    """Without what is used in training alone: SigLIP 2 is a dual encoder then."""
    if not isinstance(model, config.Siglip2):
        return model
    names = (field.name for field in dataclasses.fields(config.DualEncoder) if field.name != "kind")
    return config.DualEncoder(**{name: getattr(model, name) for name in names})


def _dual_layout(model: config.DualEncoder) -> str:
    towers = model.towers
    for name, tower in towers.items():
        if isinstance(tower, config.Precomputed):
            raise UserError(
                f"config.model.towers.{name}.kind='precomputed': the tower itself is elsewhere; "
                "export the run that has it"
            )
    if towers.keys() == {"image"}:
        return "huggingface_vit"
    if towers.keys() != {"image", "text"}:
        raise UserError(f"config.model.towers: {', '.join(towers)}; others have image and text")
    image = towers["image"]
    if image.max_patches is not None:
        return "huggingface_siglip2"
    return "huggingface_siglip" if image.pooler == "map" else "huggingface_clip"


def _classifier(model: config.Classifier, params: Params) -> Plain:
    """A head is what the projection of a tower is elsewhere."""
    tower = model.towers["image"]
    if tower.projection != "none":
        raise UserError(
            f"config.model.towers.image.projection={tower.projection!r}: "
            "ViTForImageClassification of transformers has nothing before its head"
        )
    tower = dataclasses.replace(tower, projection="linear_bias")
    plain = config.DualEncoder({"image": tower}, embed=model.classes, pairs=())
    head = "towers/image/projection/"
    renamed = {
        head + name.removeprefix("head/") if name.startswith("head/") else name: x
        for name, x in params.items()
    }
    return Plain("huggingface_vit", plain, renamed, [])


def _check_sizes(model: config.Model, p: Preprocessing) -> None:
    towers = getattr(model, "towers", {})
    image, text = towers.get("image"), towers.get("text")
    if image and image.max_patches is None and image.image_size != p.image_size:
        raise UserError(
            f"preprocessing.image_size={p.image_size}, but config.model.towers.image.image_size="
            f"{image.image_size}: their models do not resize positions; set both alike"
        )
    if text and text.length != p.length:
        raise UserError(
            f"preprocessing.length={p.length}, but config.model.towers.text.length={text.length}: "
            "set both alike"
        )


def _json(table: dict[str, Any]) -> bytes:
    return json.dumps(table, indent=2, ensure_ascii=False).encode() + b"\n"
