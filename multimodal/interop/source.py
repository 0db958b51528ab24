"""From what a user names to a checkpoint of other people's whose kind and settings are known."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

from multimodal.config import Model
from multimodal.errors import UserError
from multimodal.interop.pictures import huggingface_pictures
from multimodal.interop.pytorch import in_pytorch
from multimodal.interop.settings import SETTINGS
from multimodal.interop.tensors import Tensors, in_safetensors, joined, shards_of
from multimodal.interop.vocabulary import read_json, tokenizer_file, told_of, with_vocabulary
from multimodal.preprocessing import Preprocessing
from multimodal.schema import nearest

HUGGING_FACE = ("bert", "clip", "siglip", "siglip2", "vit")  # model_type


class Source(NamedTuple):
    """Of the tensors nothing is read yet; `tokenizer` is a file's name and content."""

    layout: str
    model: Model
    preprocessing: Preprocessing
    tensors: Tensors
    tokenizer: tuple[str, bytes] | None
    files: list[Path]  # that the tensors are in


def open_source(path: Path) -> Source:
    """What kind of checkpoint `path` is, from the files that are there. Raises UserError."""
    if not path.exists():
        raise UserError(f"there is no {path}")
    if path.is_dir():
        if (path / "config.json").is_file():
            return _huggingface(path)
        raise UserError(f"{path} is no model's folder: there is no config.json")
    raise UserError(f"{path}: single files are not read yet")


def _huggingface(folder: Path) -> Source:
    config = read_json(folder / "config.json")
    kind = config.get("model_type")
    if kind not in HUGGING_FACE:
        raise UserError(
            f"{folder / 'config.json'}: model_type={kind!r}{nearest(str(kind), HUGGING_FACE)}"
        )
    files = weight_files(folder, ("model.safetensors", "pytorch_model.bin"))
    tensors = read(files)
    layout = f"huggingface_{kind}"
    if kind == "vit" and any(name.startswith("vit.layers.") for name in tensors):
        layout = "huggingface_vit_5"
    model, preprocessing = SETTINGS[layout](config)
    told, where = _processor(folder)
    if told and kind != "bert":
        vision = config.get("vision_config", config)
        size = vision.get("image_size", preprocessing.image_size)
        preprocessing = huggingface_pictures(told, preprocessing, size, where)
        model = _with_patches(model, preprocessing)
    tokenizer = None if kind == "vit" else tokenizer_file(folder)
    if tokenizer:
        preprocessing = with_vocabulary(preprocessing, tokenizer, told_of(folder))
    return Source(layout, model, preprocessing, tensors, tokenizer, files)


def _processor(folder: Path) -> tuple[dict[str, Any], str]:
    """What is told of pictures, and where."""
    path = folder / "preprocessor_config.json"
    if path.is_file():
        return read_json(path), path.name
    path = folder / "processor_config.json"
    return read_json(path, needed=False).get("image_processor", {}), path.name


def _with_patches(model: Model, preprocessing: Preprocessing) -> Model:
    if preprocessing.max_patches is None:
        return model
    image = dataclasses.replace(model.towers["image"], max_patches=preprocessing.max_patches)
    return dataclasses.replace(model, towers=model.towers | {"image": image})


def weight_files(folder: Path, names: tuple[str, ...]) -> list[Path]:
    """The files of weights of a folder: the first of `names` that is there, whole or in shards.

    Raises UserError where none is.
    """
    for name in names:
        if (folder / name).is_file():
            return [folder / name]
        if (folder / f"{name}.index.json").is_file():
            return shards_of(folder / f"{name}.index.json")
    raise UserError(f"{folder} has no weights: neither {' nor '.join(names)}, whole or in shards")


def read(files: list[Path]) -> Tensors:
    """The tensors of some files, by name; each by what its name ends in. Raises UserError."""
    return joined(
        in_safetensors(file) if file.suffix == ".safetensors" else in_pytorch(file)
        for file in files
    )
