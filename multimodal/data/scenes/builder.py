"""The TFDS builder: generated here from a seed, written as ArrayRecord, no TensorFlow needed.

The folder that `prepare` makes is an ordinary TFDS one; `tfds.builder_from_directory(folder)
.as_data_source(split)` reads it, and several splits together as "test+test_many".
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import pathlib
import shutil
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from tqdm import tqdm

from multimodal.data.scenes import clips, records
from multimodal.errors import UserError

_F = tfds.features
_TEXTS = _F.Sequence(_F.Text())
_BYTES = _F.Scalar(np.object_)
_INT = _F.Scalar(np.int32)


_IDS = _F.Tensor(shape=(None,), dtype=np.int32)


def _points(values: int) -> _F.Tensor:
    return _F.Tensor(shape=(None, values), dtype=np.float32)


SCENE_FEATURES = {
    "key": _F.Text(),  # "train/000123"
    "image": _BYTES,  # PNG, RGB
    "captions": _TEXTS,  # each names every attribute of every object
    "num_objects": _INT,
    # One entry an object, all in the same order:
    "shapes": _IDS,  # index into SHAPES
    "colours": _IDS,  # into COLOURS
    "sizes": _IDS,  # into SIZES
    "places": _IDS,  # into PLACES
    "centres": _points(2),  # x, y as fractions of the picture
    "boxes": _points(4),  # x1, y1, x2, y2 as fractions
    "questions": _TEXTS,
    "answers": _TEXTS,  # one a question, out of ANSWERS
    "statements": _TEXTS,
    "truths": _F.Tensor(shape=(None,), dtype=np.bool_),  # one a statement, half of them true
    "shape_label": _INT,  # of the first object, for zero-shot classification
    "colour_label": _INT,
}
CLIP_FEATURES = {
    "key": _F.Text(),
    "frames": _F.Sequence(_BYTES),  # PNG, RGB, in time order
    "captions": _TEXTS,
    "centres": _points(2),  # one a frame
    "shape_label": _INT,
    "colour_label": _INT,
    "size_label": _INT,
    "direction_label": _INT,  # index into DIRECTIONS
}

Params = records.SceneParams | clips.ClipParams
# kind -> parameters, features, records of a split
_KINDS = {
    "scenes": (records.SceneParams, SCENE_FEATURES, records.records),
    "clips": (clips.ClipParams, CLIP_FEATURES, clips.records),
}


@dataclasses.dataclass
class _Config(tfds.core.BuilderConfig):
    kind: str = "scenes"
    params: Params | None = None
    on_record: Callable[[], None] = lambda: None


def _config_name(kind: str, params: Params) -> str:
    told = json.dumps(dataclasses.asdict(params), sort_keys=True)
    digest = hashlib.sha256(told.encode()).hexdigest()[:8]
    return f"{kind}-{params.image_size}px-seed{params.seed}-{digest}"


class DrawnScenes(tfds.core.GeneratorBasedBuilder):
    """Drawn scenes of one to four objects, and clips of one moving object."""

    VERSION = tfds.core.Version("1.1.1")  # raise it whenever the same parameters give other bytes
    RELEASE_NOTES = {"1.1.1": "Larger objects; every other neighbour differs in shape."}
    code_path = None  # nothing is downloaded; looking it up needs an undeclared dependency

    def _info(self) -> tfds.core.DatasetInfo:
        config = self.builder_config
        told = json.dumps(dataclasses.asdict(config.params), sort_keys=True)
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"Generated {config.kind}: {told}",
            features=_F.FeaturesDict(_KINDS[config.kind][1]),
            disable_shuffling=True,  # groups of near neighbours stay together
        )

    def _split_generators(self, dl_manager):
        splits = self.builder_config.params.sizes()
        return {split: self._generate_examples(split) for split in splits}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict]]:
        config = self.builder_config
        for index, record in enumerate(_KINDS[config.kind][2](config.params, split)):
            yield index, record
            config.on_record()


def _is_whole(folder: pathlib.Path) -> bool:
    if not (folder / "dataset_info.json").is_file():
        return False
    splits = tfds.builder_from_directory(folder).info.splits.values()
    return all(pathlib.Path(path).is_file() for split in splits for path in split.filepaths)


def prepare(data_dir: str, *, kind: str = "scenes", progress: bool = True, **parameters) -> str:
    """Generates the data set under `data_dir` unless it is there, and returns its folder.

    Args:
      data_dir: where data sets live; the folder inside depends on kind, parameters and version.
      kind: "scenes" (parameters: `SceneParams`) or "clips" (`ClipParams`).
      progress: a progress bar on stderr.

    Raises:
      UserError: an unknown kind or parameter, or a value out of range.
    """
    if kind not in _KINDS:
        raise UserError(f"scenes: kind={kind!r} must be one of {', '.join(_KINDS)}")
    known = [field.name for field in dataclasses.fields(_KINDS[kind][0])]
    for name in parameters:
        if name not in known:
            raise UserError(f"{kind}: unknown parameter {name!r}; known: {', '.join(known)}")
    params = _KINDS[kind][0](**parameters)
    config = _Config(name=_config_name(kind, params), kind=kind, params=params)
    folder = pathlib.Path(data_dir, DrawnScenes.name, config.name, str(DrawnScenes.VERSION))
    if _is_whole(folder):
        return str(folder)
    if folder.exists():  # half-written by somebody: make it again
        shutil.rmtree(folder)
    total = sum(params.sizes().values())
    with tqdm(
        total=total, desc=f"drawing {kind}", unit=" records", mininterval=1.0, disable=not progress
    ) as bar:
        config.on_record = bar.update
        try:
            with _quiet():
                DrawnScenes(
                    data_dir=data_dir, config=config, file_format="array_record"
                ).download_and_prepare()
        except OSError:
            if not _is_whole(folder):  # unless another process has just finished the same
                raise
    return str(folder)


@contextlib.contextmanager
def _quiet():
    """Without the library's own bars and announcements."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        tfds.enable_progress_bar()
        logging.set_verbosity(verbosity)


class Split:
    """Random access to one split; every record a plain dict.

    Texts are str, pictures PNG bytes, numbers int or numpy arrays: shapes, colours, sizes, places
    # [objects] int32, centres # [objects, 2], boxes # [objects, 4] float32, truths # [4] bool.
    """

    def __init__(self, folder: str, split: str):
        if not (pathlib.Path(folder) / "dataset_info.json").is_file():
            raise UserError(f"scenes: no data set in {folder}; make it with scenes.prepare()")
        builder = tfds.builder_from_directory(folder)
        unknown = [name for name in split.split("+") if name not in builder.info.splits]
        if unknown:
            known = ", ".join(builder.info.splits)
            raise UserError(f"scenes: no split {unknown[0]!r} in {folder}; there are {known}")
        self._source = builder.as_data_source(split)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> dict:
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} is outside 0..{len(self) - 1}")
        return {name: _plain(name, value) for name, value in self._source[index].items()}


def _plain(name: str, value):
    if name in ("image", "frames"):
        return value
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, list):
        return [text.decode() for text in value]
    return value if np.ndim(value) else int(value)


def open_split(folder: str, split: str) -> Split:
    """The split, or several joined by '+', of a folder returned by `prepare`."""
    return Split(folder, split)
