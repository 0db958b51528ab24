"""Prepared TensorFlow Datasets, read without TensorFlow; pictures stay encoded until needed."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from multimodal.data.record import BrokenRecord, Record, locate, wanted
from multimodal.errors import UserError


class TfdsSource:
    """Records of one split (TFDS slicing such as `train[:90%]` too) of a folder that TFDS prepared.

    Text features become str, images their encoded bytes, class labels int, sequences lists.
    Raises UserError when the folder holds no random-access data set or no such split.
    """

    def __init__(self, folder: str, split: str, fields: Iterable[str] | None = None):
        self._arguments = (folder, split, None if fields is None else tuple(fields))
        try:
            builder = tfds.builder_from_directory(folder)
            raw = tfds.decode.DeserializeMethod.RAW_BYTES
            self._source = builder.as_data_source(split, deserialize_method=raw)
            _probe(self._source)
        except Exception as error:  # TFDS raises a different class for each way to be wrong
            why = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            raise UserError(
                f"data.source: cannot read split {split!r} of {folder}: {why}"
            ) from None
        features = builder.info.features
        asked = {n: f for n, f in features.items() if n == "key" or wanted(n, fields)}
        self._features = tfds.features.FeaturesDict(asked)
        self._decoders = _keep_encoded(self._features)
        self._instructions = builder.info.splits[split].file_instructions
        self._starts = np.cumsum([0] + [i.take for i in self._instructions])
        self._before = _records_before(builder.info.splits)

    def __reduce__(self) -> tuple[Any, ...]:
        return TfdsSource, self._arguments

    @property
    def shards(self) -> int:
        return len(self._instructions)

    def __len__(self) -> int:
        return len(self._source)

    def _key(self, index: int) -> str:
        """Split and place in it, which a slice does not change."""
        file, place = locate(index, self._starts)
        part = self._instructions[file]
        split, before = self._before[Path(part.filename).name]
        return f"{split}/{before + part.skip + place}"

    def __getitem__(self, index: int) -> Record:
        key = self._key(index)
        try:
            raw = self._source[index]
            values = self._features.deserialize_example_np(raw, decoders=self._decoders)
            return {"key": key} | _plain(self._features, values)
        except Exception as error:
            raise BrokenRecord(key, f"cannot be read: {error!r}"[:200]) from error


def _records_before(splits: Any) -> dict[str, tuple[str, int]]:
    """File name -> its split and the number of records in the split's files before it."""
    places = {}
    for name, split in splits.items():
        starts = np.cumsum([0, *split.shard_lengths]).tolist()
        for path, start in zip(split.filepaths, starts, strict=False):
            places[Path(path).name] = (name, start)
    return places


def _probe(source: Any) -> None:
    """Raises what the reader says when neither first, middle nor last record can be read."""
    places = {0, len(source) // 2, len(source) - 1} if len(source) else ()
    problems = []
    for index in places:
        try:
            source[index]
        except Exception as error:
            problems.append(error)
    if problems and len(problems) == len(places):
        raise problems[0]


def folder_of(name: str, data_dir: str) -> str:
    """The version folder of data set `name`: a path to it, or a name below `data_dir`.

    Below a name the newest version is taken. Raises UserError when there is none.
    """
    for base in (Path(name).expanduser(), Path(data_dir or "~/tensorflow_datasets") / name):
        found = [p.parent for p in base.expanduser().rglob("dataset_info.json")]
        if found:
            return str(max(found, key=_version))
    raise UserError(
        f"data.source.name: no prepared data set at {name!r} or below {data_dir or 'data_dir'!r}; "
        "a folder with dataset_info.json is expected"
    )


def _version(folder: Path) -> tuple[int, ...]:
    parts = folder.name.split(".")
    return tuple(int(p) for p in parts) if all(p.isdigit() for p in parts) else ()


def _keep_encoded(features: tfds.features.FeaturesDict) -> dict[str, Any]:
    decoders: dict[str, Any] = {}
    for name, feature in features.items():
        if isinstance(feature, tfds.features.FeaturesDict):
            decoders[name] = _keep_encoded(feature)
        elif isinstance(feature, tfds.features.Image):
            decoders[name] = tfds.decode.SkipDecoding()
    return decoders


def _plain(feature: Any, value: Any) -> Any:
    """What TFDS returns as Python values: text as str, short arrays as lists."""
    if isinstance(feature, tfds.features.FeaturesDict):
        return {name: _plain(feature[name], value[name]) for name in value}
    if isinstance(feature, tfds.features.Sequence):
        if isinstance(feature.feature, tfds.features.FeaturesDict):
            return {name: _plain_list(feature.feature[name], v) for name, v in value.items()}
        return _plain_list(feature.feature, value)
    if isinstance(feature, tfds.features.Text) and isinstance(value, bytes):
        return value.decode()
    return value.item() if isinstance(value, np.generic) else value


def _plain_list(feature: Any, values: Any) -> Any:
    if isinstance(feature, tfds.features.Text):
        return [v.decode() if isinstance(v, bytes) else str(v) for v in values]
    if isinstance(values, np.ndarray) and values.ndim == 1:
        return values.tolist()
    return values
