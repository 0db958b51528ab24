"""One example of a record, and a batch of examples: decode, augment, fit, tokenise."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from multimodal import config
from multimodal.data import captions, features, images, patches, transforms
from multimodal.data.record import BrokenRecord, Record, Source, look_up
from multimodal.data.stages import stage
from multimodal.data.tokenizers import BpeDropout, Tokenizer, cleaned, tokenize
from multimodal.preprocessing import Preprocessing

Batch = dict[str, Any]


@dataclass(frozen=True)
class Load:
    """One example from its index in this process; without a seed, in order and once."""

    source: Source
    fields: dict[str, str]
    ops: tuple[transforms.Op, ...]
    preprocessing: Preprocessing
    batch_size: int
    per_process: int
    process_index: int
    seed: int | None
    order: Callable[[int], int] = int
    templates: tuple[str, ...] = ()
    languages: Mapping[str, float] = field(default_factory=dict)
    tags: config.Tags | None = None
    texts: int = 1
    extra: tuple[str, ...] = ()
    width: int = 0
    classes: int | None = None

    def __call__(self, index: int) -> dict[str, Any]:
        batch, slot = divmod(index, self.per_process)
        position = batch * self.batch_size + self.process_index * self.per_process + slot
        if self.seed is None and position >= len(self.source):
            return {"position": position, "key": "", "broken": ""}
        try:
            with stage("read"):
                record = self.source[self.order(position)]
        except BrokenRecord as error:
            return {"position": position, "key": error.key, "broken": error.reason}
        example = {"position": position, "key": record["key"]}
        example |= {name: _or_none(record, name) for name in self.extra}
        try:
            return example | self._read(record, position)
        except (images.BrokenImage, KeyError, ValueError, TypeError) as error:
            return example | {"broken": str(error.args[0] if error.args else error)}

    def _read(self, record: Record, position: int) -> dict[str, Any]:
        values = {n: look_up(record, path) for n, path in self.fields.items() if n != "tags"}
        if "text" in values:
            spoken = captions.captions(values["text"], self.languages)
        if "label" in values:
            _check_label(values["label"], self.classes)
        if "image_features" in values:
            values["image_features"] = features.vector(values["image_features"], self.width)
        if self.seed is None:
            rng = None
            if "text" in values:
                values["text"], values["languages"] = captions.listed(spoken, self.templates)
        else:
            rng = np.random.default_rng((self.seed, position))
            if "text" in values:
                tags = captions.tags(_or_none(record, self.fields.get("tags")))
                values["text"] = [
                    captions.draw(spoken, self.languages, self.templates, rng, tags, self.tags)
                    for _ in range(self.texts)
                ]
        if "image" in values:
            first = self.ops[0] if self.ops else None
            values["image"] = _picture(values["image"], isinstance(first, transforms.CROPS))
            with stage("augment"):
                for op in self.ops:
                    values = op(values, rng)
                values["image"] = transforms.fit(values["image"], self.preprocessing)
        return values


@dataclass(frozen=True)
class Collate:
    """Examples to one batch; a tokenizer turns texts to ids, without one they stay as they are."""

    fields: dict[str, str]
    preprocessing: Preprocessing
    tokenizer: Tokenizer | None
    extra: tuple[str, ...] = ()
    width: int = 0  # of image_features
    bpe_dropout: BpeDropout | None = None
    texts: int = 1  # of each example

    def __call__(self, examples: Sequence[dict[str, Any]]) -> Batch:
        with stage("collate"):
            return self._batch(examples)

    def _batch(self, examples: Sequence[dict[str, Any]]) -> Batch:
        valid = np.array(["broken" not in e for e in examples])
        batch: Batch = {
            "valid": valid,
            "position": np.array([e["position"] for e in examples], np.int64),
            "keys": [e["key"] for e in examples],
            "broken": [(e["key"], e["broken"]) for e in examples if e.get("broken")],
        }
        if "image" in self.fields:
            pictures = [e["image"] if v else None for e, v in zip(examples, valid, strict=True)]
            batch["image"] = patches.stack(pictures, self.preprocessing)
        if "label" in self.fields:
            labels = [int(e["label"]) if v else 0 for e, v in zip(examples, valid, strict=True)]
            batch["label"] = np.array(labels, np.int32)
        if "image_features" in self.fields:
            batch["image_features"] = np.zeros((len(examples), self.width), np.float32)
            for slot in np.flatnonzero(valid):
                batch["image_features"][slot] = examples[slot]["image_features"]
        if "text" in self.fields and self.tokenizer is None:
            texts = [e["text"] if v else [] for e, v in zip(examples, valid, strict=True)]
            batch["texts"] = texts
            batch["languages"] = [e.get("languages", []) for e in examples]
        elif "text" in self.fields:
            texts = [text for e, v in zip(examples, valid, strict=True) if v for text in e["text"]]
            shape = (self.texts, self.preprocessing.length)
            batch["text"] = np.zeros((len(examples), *shape), np.int32)
            with stage("tokenise"):
                ids = self._tokenize(texts, batch["position"][valid])
            batch["text"][valid] = ids.reshape(-1, *shape)
            if self.texts == 1:
                batch["text"] = batch["text"][:, 0]
        return batch | {name: [e.get(name) for e in examples] for name in self.extra}

    def _tokenize(self, texts: Sequence[str], positions: np.ndarray) -> np.ndarray:
        p = self.preprocessing
        if self.bpe_dropout is None:
            return tokenize(texts, p, self.tokenizer)
        numbers = positions[:, None] * self.texts + np.arange(self.texts)
        return self.bpe_dropout.encode_batch(
            cleaned(texts, p), numbers.ravel(), p.length, p.add_start, p.add_end
        )


def _picture(value: Any, encoded: bool) -> bytes | np.ndarray:
    """Pixels; or the bytes of a picture as they are, where `encoded` ones are read next."""
    if isinstance(value, bytes):
        return value if encoded else images.decode(value)
    if isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.shape[2:] == (3,):
        return value
    if isinstance(value, str):
        raise ValueError(f"image is a text, {value[:60]!r}; only a table in a folder names files")
    raise ValueError(f"image is neither encoded bytes nor uint8 [height, width, 3]: {type(value)}")


def _check_label(label: Any, classes: int | None) -> None:
    if not isinstance(label, (int, np.integer)):
        raise ValueError(f"label {label!r} is not an integer")
    if classes is not None and not 0 <= label < classes:
        raise ValueError(f"label {label} is none of the model's classes, 0 to {classes - 1}")


def _or_none(record: Record, path: str | None) -> Any:
    if path is None:
        return None
    try:
        return look_up(record, path)
    except KeyError:
        return None
