"""Does a run's input and model mean what those of the checkpoint meant that it starts from?

Most accuracy that is lost in fine-tuning is lost here, and silently: shapes fit, numbers mean
something else. Only what concerns the parameters that are loaded is compared.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from multimodal.config import CoCa, ImageTower, Model, TextTower, Transformer, parts
from multimodal.preprocessing import Preprocessing

# What decides how texts become ids; all other settings of preprocessing are about pictures.
_TEXT = ("lowercase", "canonicalize", "length", "add_start", "add_end")
_TOKENIZER = ("tokenizer", "pad_id", "start_id", "end_id")
# What decides what a model's weights mean, and does not show in their shapes.
_MODEL: dict[type, tuple[str, ...]] = {
    Transformer: ("activation", "heads", "norm_position", "norm_eps", "causal"),
    ImageTower: ("pooler",),
    TextTower: ("pooler", "mask_padding"),
    CoCa: ("form", "pooler_heads"),
}


@dataclass(frozen=True)
class Meaning:
    """What parameters were trained as; `tokenizer` is of `describe_tokenizer`."""

    model: Model
    preprocessing: Preprocessing
    tokenizer: dict[str, Any]


@dataclass(frozen=True)
class Difference:
    """One setting, by its name and dotted path, here and in the checkpoint."""

    name: str
    where: str
    now: Any
    then: Any


def names() -> set[str]:
    """Of all settings that are compared."""
    of_models = {name for listed in _MODEL.values() for name in listed}
    return {*_picture_names(), *_TEXT, *_TOKENIZER} | of_models


def disagreements(now: Meaning, then: Meaning, sources: Mapping[str, str]) -> list[Difference]:
    """Every setting that differs and concerns `sources`: a parameter's path here -> there.

    An image tower alone asks for the settings of pictures, a text tower for those of texts, and
    parameters that see both for both; a temperature for none.
    """
    pairs: list[tuple[str, Any, Any]] = []
    for path, source in sources.items():
        if path.startswith("temperature/"):
            continue
        where, part = part_of(now.model, path)
        pair = (where, part, part_of(then.model, source)[1])
        if pair not in pairs:
            pairs.append(pair)
    found = input_differences(now, then, {kind for _, part, _ in pairs for kind in _reads(part)})
    for where, part, other in pairs:
        found += [d for d in _of_parts(where, part, other) if d not in found]
    return found


def input_differences(now: Meaning, then: Meaning, read: set[str]) -> list[Difference]:
    """Settings that differ of what is `read`: "image", "text" or both."""
    found: list[Difference] = []
    if "image" in read:
        found += _of_pictures(now.preprocessing, then.preprocessing)
    if "text" in read:
        found += _of_texts(now, then)
    return found


def part_of(model: Model, path: str) -> tuple[str, Any]:
    """The tower that a parameter belongs to with its dotted path; else the whole model."""
    for where, part in parts(model):
        if isinstance(part, ImageTower | TextTower):
            prefix = where.removeprefix("config.model.").replace(".", "/")
            if path.startswith(f"{prefix}/"):
                return where, part
    return "config.model", model


def _reads(part: Any) -> Iterator[str]:
    inner = [inner for _, inner in parts(part)]
    if any(hasattr(one, "image_size") for one in inner):
        yield "image"
    if any(hasattr(one, "vocab_size") for one in inner):
        yield "text"


def _picture_names() -> list[str]:
    told = {*_TEXT, *_TOKENIZER}
    return [field.name for field in dataclasses.fields(Preprocessing) if field.name not in told]


def _of_pictures(now: Preprocessing, then: Preprocessing) -> Iterator[Difference]:
    for name in _picture_names():
        if name == "pad_value" and "pad" not in (now.resize, then.resize):
            continue
        if name == "patch_size" and now.max_patches is then.max_patches is None:
            continue
        yield from _differ(name, f"config.preprocessing.{name}", now, then)


def _of_texts(now: Meaning, then: Meaning) -> Iterator[Difference]:
    for name in _TEXT:
        where = f"config.preprocessing.{name}"
        yield from _differ(name, where, now.preprocessing, then.preprocessing)
    here, there = now.tokenizer, then.tokenizer
    if here["fingerprint"] != there["fingerprint"]:
        yield Difference(
            "tokenizer",
            "config.preprocessing.tokenizer",
            _vocabulary(now.preprocessing.tokenizer, here),
            _vocabulary(then.preprocessing.tokenizer, there),
        )
    both_start = now.preprocessing.add_start and then.preprocessing.add_start
    both_end = now.preprocessing.add_end and then.preprocessing.add_end
    for name, used in (("pad_id", True), ("start_id", both_start), ("end_id", both_end)):
        if used and here[name] != there[name]:
            where = "config.preprocessing.pad_id" if name == "pad_id" else f"the tokenizer's {name}"
            yield Difference(name, where, here[name], there[name])


def _vocabulary(name: str, told: dict[str, Any]) -> str:
    return f"{name} ({told['vocab_size']} tokens, fingerprint {told['fingerprint']})"


def _of_parts(where: str, now: Any, then: Any) -> Iterator[Difference]:
    others = dict(parts(then, where))
    for path, part in parts(now, where):
        if type(part) is type(others.get(path)):
            for name in _MODEL.get(type(part), ()):
                yield from _differ(name, f"{path}.{name}", part, others[path])


def _differ(name: str, where: str, now: Any, then: Any) -> Iterator[Difference]:
    if getattr(now, name) != getattr(then, name):
        yield Difference(name, where, getattr(now, name), getattr(then, name))
