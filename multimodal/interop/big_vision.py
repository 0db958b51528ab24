"""Checkpoints of big_vision, an .npz file each, in and out.

There are no settings beside it: sizes are read off the shapes, and what shapes do not tell is as
big_vision has it for SigLIP: GELU by tanh, norms with 1e-6, squares of pixels from -1 to 1.
"""

import dataclasses
import math
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from multimodal.config import DualEncoder, ImageTower, Transformer
from multimodal.errors import UserError
from multimodal.interop.huggingface import huggingface_siglip
from multimodal.interop.openai import Settings
from multimodal.interop.pytorch import offset_in_zip
from multimodal.interop.rows import IMAGE, TEMPERATURE, TEXT, Layout, Row
from multimodal.interop.tensors import Stored, Tensors
from multimodal.preprocessing import Preprocessing

_ATTENTION = "MultiHeadDotProductAttention_0"
_HEADS = re.compile(rf"{_ATTENTION}/(query|key|value|out)/(kernel|bias)$")
_SCANNED = "/encoderblock/"


def in_big_vision(path: Path) -> tuple[Tensors, dict[str, int]]:
    """The tensors of the parameters by name, and how many heads each of the attentions has.

    A stack in one piece is cut into layers, and the heads of a kernel are put side by side, as
    the table of names has them. Raises UserError where the file is no such .npz.
    """
    found: Tensors = {}
    heads: dict[str, int] = {}
    members = _members(path)
    params = {n.removeprefix("params/"): x for n, x in members.items() if n.startswith("params/")}
    for name, tensor in (params or members).items():
        for part, layer in _layers(name, tensor):
            if match := _HEADS.search(part):
                layer = _side_by_side(layer, *match.groups(), heads, part)
            found[part] = layer
    return found, heads


def big_vision(tensors: Tensors, heads: Mapping[str, int]) -> tuple[str, Settings]:
    """The layout and the settings of what `in_big_vision` gave. Raises UserError."""
    names = [name for name in ("embedding/kernel", "img/embedding/kernel") if name in tensors]
    if not names:
        raise UserError("the .npz is not big_vision's: there is no embedding/kernel")
    if "cls" in tensors or "img/cls" in tensors:
        raise UserError("cls: a class token without a position of its own is not supported")
    sizes = {"image": _image_sizes(tensors, heads, names[0].removesuffix("embedding/kernel"))}
    if names == ["embedding/kernel"]:
        return "big_vision_vit", big_vision_vit(sizes)
    for name in ("txt/Embed_0/embedding", "txt/pos_embedding", "t"):
        if name not in tensors:
            raise UserError(f"big_vision_siglip weights: {name} is missing")
    text = _stack_sizes(tensors, heads, "txt/Encoder_0")
    text["vocab_size"] = tensors["txt/Embed_0/embedding"].shape[0]
    text["max_position_embeddings"] = tensors["txt/pos_embedding"].shape[1]
    embed = tensors["txt/head/kernel"].shape[1] if "txt/head/kernel" in tensors else 0
    text["projection_size"] = embed
    sizes |= {"text": text, "bias": "b" in tensors}
    return "big_vision_siglip", big_vision_siglip(sizes)


def _flax_linear(theirs: str, ours: str) -> list[Row]:
    return [Row(f"{theirs}/{name}", f"{ours}/{name}") for name in ("kernel", "bias")]


def _flax_norm(theirs: str, ours: str) -> list[Row]:
    return [Row(f"{theirs}/{name}", f"{ours}/{name}") for name in ("scale", "bias")]


def _flax_attention(theirs: str, ours: str) -> list[Row]:
    theirs = f"{theirs}/MultiHeadDotProductAttention_0"
    names = ("query", "key", "value", "out")
    return [row for name in names for row in _flax_linear(f"{theirs}/{name}", f"{ours}/{name}")]


def _flax_mlp(theirs: str, ours: str) -> list[Row]:
    theirs = f"{theirs}/MlpBlock_0"
    up, down = (_flax_linear(f"{theirs}/Dense_{i}", f"{ours}/{n}") for i, n in enumerate(_MLP))
    return [*up, *down]


_MLP = ("up", "down")


def _big_vision_stack(theirs: str, ours: str) -> list[Row]:
    block, blocks = f"{theirs}/encoderblock_{{i}}", f"{ours}/stack/blocks"
    return [
        *_flax_norm(f"{block}/LayerNorm_0", f"{blocks}/attention_norm"),
        *_flax_attention(block, f"{blocks}/attention"),
        *_flax_norm(f"{block}/LayerNorm_1", f"{blocks}/mlp_norm"),
        *_flax_mlp(block, f"{blocks}/mlp"),
        *_flax_norm(f"{theirs}/encoder_norm", f"{ours}/final_norm"),
    ]


def _big_vision_image(prefix: str) -> list[Row]:
    pool, pooler = f"{prefix}MAPHead_0", f"{IMAGE}/pooler"
    return [
        Row(f"{prefix}embedding/kernel", f"{IMAGE}/patches/linear/kernel", "flax_patch"),
        Row(f"{prefix}embedding/bias", f"{IMAGE}/patches/linear/bias"),
        Row(f"{prefix}pos_embedding", f"{IMAGE}/positions/position", "one_less"),
        *_big_vision_stack(f"{prefix}Transformer", IMAGE),
        Row(f"{pool}/probe", f"{pooler}/probe", "one_less"),
        *_flax_attention(pool, f"{pooler}/attention"),
        *_flax_norm(f"{pool}/LayerNorm_0", f"{pooler}/norm"),
        *_flax_mlp(pool, f"{pooler}/mlp"),
        *_flax_linear(f"{prefix}head", f"{IMAGE}/projection"),
    ]


# As `in_big_vision` names and shapes them.
BIG_VISION_VIT = Layout(tuple(_big_vision_image("")))
BIG_VISION_SIGLIP = Layout(
    (
        *_big_vision_image("img/"),
        Row("txt/Embed_0/embedding", f"{TEXT}/tokens/table"),
        Row("txt/pos_embedding", f"{TEXT}/positions/position", "one_less"),
        *_big_vision_stack("txt/Encoder_0", TEXT),
        *_flax_linear("txt/head", f"{TEXT}/projection"),
        Row("t", f"{TEMPERATURE}/scale", "one_less"),
        Row("b", f"{TEMPERATURE}/bias", "one_less"),
    )
)


def big_vision_siglip(sizes: dict[str, Any], tokenizer: str = "tokenizer.json") -> Settings:
    """Of two towers, from the sizes of each as `big_vision` reads them."""
    config = {"vision_config": sizes["image"], "text_config": sizes["text"]}
    model, preprocessing = huggingface_siglip(config, tokenizer)
    towers = model.towers
    image, text = sizes["image"], sizes["text"]
    projection = "linear_bias" if image.get("head") else "none"
    towers["image"] = dataclasses.replace(
        towers["image"], projection=projection, pooler=image.get("pooler", "map")
    )
    if not text["projection_size"]:
        towers["text"] = dataclasses.replace(towers["text"], projection="none")
    embed = text["projection_size"] or text["hidden_size"]
    bias = model.logit_bias_init if sizes.get("bias", True) else None
    return dataclasses.replace(
        model, towers=towers, embed=embed, logit_bias_init=bias
    ), preprocessing


def big_vision_vit(sizes: dict[str, Any], tokenizer: str = "bytes") -> Settings:
    """Of one tower with a head, whose embedding is the logits."""
    image = sizes["image"]
    if not image.get("head"):
        raise UserError("big_vision_vit weights: head/kernel is missing")
    tower = ImageTower(
        image_size=image["image_size"],
        patch_size=image["patch_size"],
        pooler=image["pooler"],
        projection="linear_bias",
        transformer=Transformer(
            width=image["hidden_size"],
            depth=image["num_hidden_layers"],
            heads=image["num_attention_heads"],
            mlp=image["intermediate_size"],
        ),
    )
    preprocessing = Preprocessing(
        image_size=image["image_size"], resize="squash", interpolation="bilinear"
    )
    return DualEncoder({"image": tower}, embed=image["head"], pairs=()), preprocessing


def write_big_vision(
    path: Path, tensors: Mapping[str, np.ndarray], heads: Mapping[str, int]
) -> None:
    """An .npz as big_vision reads it, of tensors as `export_weights` names them; `heads` of the
    towers by what their names begin with, such as `img/`."""
    theirs = {}
    for name, tensor in tensors.items():
        if match := _HEADS.search(name):
            count = next(n for prefix, n in heads.items() if name.startswith(prefix))
            tensor = _apart(tensor, *match.groups(), count)
        theirs[f"params/{name}"] = tensor
    np.savez(path, **theirs)


def _members(path: Path) -> Tensors:
    """The arrays of an .npz, not read. Raises UserError."""
    found: Tensors = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if not member.filename.endswith(".npy"):
                    raise UserError(f"{path}: {member.filename} is not an array")
                name = member.filename.removesuffix(".npy")
                with archive.open(member) as file:
                    version = np.lib.format.read_magic(file)
                    read = np.lib.format.read_array_header_1_0
                    if version != (1, 0):
                        read = np.lib.format.read_array_header_2_0
                    shape, fortran, dtype = read(file)
                    header = file.tell()
                if dtype.hasobject:
                    raise UserError(f"{path}: {name} is a pickle, which is not read")
                if fortran and len(shape) > 1:
                    raise UserError(f"{path}: {name} is in Fortran's order; write it in C's")
                dtype = np.dtype(jnp.bfloat16) if dtype == np.dtype("V2") else dtype
                found[name] = Stored(path, offset_in_zip(path, member) + header, dtype, shape)
                if header + found[name].span * dtype.itemsize > member.file_size:
                    raise UserError(f"{path} is torn: {name} reaches beyond its end")
    except (zipfile.BadZipFile, ValueError) as error:
        raise UserError(f"{path} is not a whole .npz: {error}") from None
    return found


def _layers(name: str, tensor: Stored) -> list[tuple[str, Stored]]:
    if _SCANNED not in name or not tensor.shape:
        return [(name, tensor)]
    depth, *shape = tensor.shape
    size = math.prod(shape) * tensor.dtype.itemsize
    return [
        (
            name.replace(_SCANNED, f"/encoderblock_{i}/"),
            Stored(tensor.path, tensor.offset + i * size, tensor.dtype, tuple(shape)),
        )
        for i in range(depth)
    ]


def _side_by_side(
    tensor: Stored, which: str, kind: str, heads: dict[str, int], name: str
) -> Stored:
    """[in, heads, size] as [in, heads * size], and the like; notes the number of heads."""
    shape = tensor.shape
    if kind == "bias":
        shape = shape if which == "out" else (math.prod(shape),)
    elif len(shape) != 3:
        raise UserError(f"big_vision weights: {name} has shape {shape}, not three axes")
    elif which == "out":
        shape = (shape[0] * shape[1], shape[2])
    else:
        heads[name.split(f"/{_ATTENTION}")[0]] = shape[1]
        shape = (shape[0], shape[1] * shape[2])
    return Stored(tensor.path, tensor.offset, tensor.dtype, shape)


def _apart(tensor: np.ndarray, which: str, kind: str, heads: int) -> np.ndarray:
    if which == "out":
        return tensor if kind == "bias" else tensor.reshape(heads, -1, tensor.shape[-1])
    return tensor.reshape(*tensor.shape[:-1], heads, -1)


def _image_sizes(tensors: Tensors, heads: Mapping[str, int], prefix: str) -> dict[str, Any]:
    """In Hugging Face's words; `head` is how wide the projection is, 0 where there is none."""
    patch = tensors[f"{prefix}embedding/kernel"].shape[0]
    if f"{prefix}pos_embedding" not in tensors:
        raise UserError(f"big_vision weights: {prefix}pos_embedding is missing")
    grid = math.isqrt(tensors[f"{prefix}pos_embedding"].shape[1])
    head = tensors.get(f"{prefix}head/kernel")
    sizes = _stack_sizes(tensors, heads, f"{prefix}Transformer")
    return sizes | {
        "image_size": grid * patch,
        "patch_size": patch,
        "pooler": "map" if f"{prefix}MAPHead_0/probe" in tensors else "mean",
        "head": head.shape[1] if head else 0,
    }


def _stack_sizes(tensors: Tensors, heads: Mapping[str, int], stack: str) -> dict[str, int]:
    pattern = re.compile(re.escape(stack) + r"/encoderblock_(\d+)/")
    layers = {int(m[1]) for m in map(pattern.match, tensors) if m}
    first = f"{stack}/encoderblock_0"
    up = f"{first}/MlpBlock_0/Dense_0/kernel"
    if up not in tensors or first not in heads:
        raise UserError(f"big_vision weights: {up} is missing")
    width, mlp = tensors[up].shape
    return {
        "hidden_size": width,
        "num_hidden_layers": 1 + max(layers),
        "num_attention_heads": heads[first],
        "intermediate_size": mlp,
    }
