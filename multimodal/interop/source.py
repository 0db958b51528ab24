"""From what a user names to a checkpoint of other people's whose kind and settings are known."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

from multimodal.config import Model, parts
from multimodal.errors import UserError
from multimodal.interop.big_vision import big_vision, in_big_vision
from multimodal.interop.open_clip import open_clip
from multimodal.interop.openai import openai_sizes
from multimodal.interop.pictures import huggingface_pictures, open_clip_pictures
from multimodal.interop.pytorch import in_pytorch
from multimodal.interop.settings import SETTINGS
from multimodal.interop.tensors import Tensors, in_safetensors, joined, shards_of
from multimodal.interop.vocabulary import read_json, tokenizer_file, told_of, with_vocabulary
from multimodal.preprocessing import Preprocessing
from multimodal.schema import nearest

_HUGGING_FACE_FILES = ("model.safetensors", "pytorch_model.bin")
_OPEN_CLIP_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
HUGGING_FACE = ("bert", "clip", "siglip", "siglip2", "vit")  # model_type


class Source(NamedTuple):
    """Of the tensors nothing is read yet; `tokenizer` is a file's name and content."""

    layout: str
    model: Model
    preprocessing: Preprocessing
    tensors: Tensors
    tokenizer: tuple[str, bytes] | None


def open_source(path: Path) -> Source:
    """What kind of checkpoint `path` is, from the files that are there. Raises UserError."""
    if not path.exists():
        raise UserError(f"there is no {path}")
    if not path.is_dir():
        return _big_vision(path) if path.suffix == ".npz" else _openai(path)
    if (path / "config.json").is_file() and _has_weights(path, _HUGGING_FACE_FILES):
        return _huggingface(path)
    if (path / "open_clip_config.json").is_file():
        return _open_clip(path)
    if (path / "config.json").is_file():
        weight_files(path, _HUGGING_FACE_FILES)  # tells what is missing
    raise UserError(
        f"{path} is no model's folder: there is neither a config.json nor an open_clip_config.json"
    )


def _big_vision(path: Path) -> Source:
    tensors, heads = in_big_vision(path)
    layout, (model, preprocessing) = big_vision(tensors, heads)
    return Source(layout, model, preprocessing, tensors, None)


def _openai(path: Path) -> Source:
    if path.suffix not in (".pt", ".pth", ".bin", ".safetensors"):
        raise UserError(f"{path}: files end in .safetensors, .npz, .pt, .pth or .bin")
    tensors = read([path])
    model, preprocessing = SETTINGS["openai_clip"](openai_sizes(tensors))
    return Source("openai_clip", model, preprocessing, tensors, None)


def _open_clip(folder: Path) -> Source:
    told = read_json(folder / "open_clip_config.json")
    if not isinstance(told.get("model_cfg"), dict):
        raise UserError(f"{folder / 'open_clip_config.json'} has no table model_cfg")
    config, pictures = told["model_cfg"], told.get("preprocess_cfg", {})
    try:
        layout, (model, preprocessing) = open_clip(config)
    except KeyError as error:
        raise UserError(f"{folder / 'open_clip_config.json'} lacks {error}") from None
    size = config["vision_cfg"].get("image_size", 224)
    where = "open_clip_config.json: preprocess_cfg"
    preprocessing = open_clip_pictures(pictures, preprocessing, size, where)
    files = weight_files(folder, _OPEN_CLIP_FILES)
    return _with_tokenizer(layout, model, preprocessing, files, folder)


def _huggingface(folder: Path) -> Source:
    config = read_json(folder / "config.json")
    kind = config.get("model_type")
    if kind not in HUGGING_FACE:
        raise UserError(
            f"{folder / 'config.json'}: model_type={kind!r}{nearest(str(kind), HUGGING_FACE)}"
        )
    files = weight_files(folder, _HUGGING_FACE_FILES)
    layout = f"huggingface_{kind}"
    if kind == "vit" and any(name.startswith("vit.layers.") for name in read(files)):
        layout = "huggingface_vit_5"
    try:
        model, preprocessing = SETTINGS[layout](config)
    except KeyError as error:
        raise UserError(f"{folder / 'config.json'} lacks {error}") from None
    told, where = _processor(folder)
    if told and kind != "bert":
        vision = config.get("vision_config", config)
        size = vision.get("image_size", preprocessing.image_size)
        preprocessing = huggingface_pictures(told, preprocessing, size, where)
        model = _with_patches(model, preprocessing)
    return _with_tokenizer(layout, model, preprocessing, files, folder)


def _with_tokenizer(
    layout: str, model: Model, preprocessing: Preprocessing, files: list[Path], folder: Path
) -> Source:
    tokenizer = None
    if any(hasattr(part, "vocab_size") for _, part in parts(model)):
        tokenizer = tokenizer_file(folder)
    if tokenizer:
        preprocessing = with_vocabulary(preprocessing, tokenizer, told_of(folder))
    return Source(layout, model, preprocessing, read(files), tokenizer)


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


def _has_weights(folder: Path, names: tuple[str, ...]) -> bool:
    return any((folder / f"{n}{end}").is_file() for n in names for end in ("", ".index.json"))


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
