"""Where examples come from, and what happens to them before the model's preprocessing."""

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Scenes:
    """Drawn scenes, generated from a seed on first use (`multimodal/data/scenes`)."""

    kind: Literal["scenes"] = "scenes"
    split: str = "train"
    train: int = 20000
    image_size: int = 32
    seed: int = 0


@dataclass(frozen=True)
class Tfds:
    """A folder that TensorFlow Datasets prepared as ArrayRecord, or its name below `data_dir`.

    `split` may be sliced and joined as TFDS does: `train[:90%]`, `test+test_many`.
    """

    name: str
    kind: Literal["tfds"] = "tfds"
    split: str = "train"


@dataclass(frozen=True)
class ArrayRecords:
    """ArrayRecord files that `multimodal.data.array_record.write` made; `path` as for `Tar`."""

    path: str
    kind: Literal["array_record"] = "array_record"


@dataclass(frozen=True)
class Tar:
    """WebDataset shards: one file, a folder, `{000..999}` or `*` patterns, or several with `::`.

    A relative path is looked for below `data_dir`. A record's fields are the extensions of its
    members; `json.a.b` reaches into a JSON member.
    """

    path: str
    kind: Literal["tar"] = "tar"


@dataclass(frozen=True)
class Parquet:
    """Parquet files, `path` as for `Tar`; a record's fields are the columns."""

    path: str
    kind: Literal["parquet"] = "parquet"


@dataclass(frozen=True)
class Folder:
    """A folder of pictures with a CSV, TSV or JSONL `table`, whose column `image` names each file.

    Both may be left to be found. Without a table a picture's text lies beside it (`a.jpg`,
    `a.txt`), or the sub-folder that it is in names its class. `path` may be the table itself.
    """

    path: str
    kind: Literal["folder"] = "folder"
    table: str = ""
    image: str = ""


@dataclass(frozen=True)
class HuggingFace:
    """A folder that `datasets` saved with `save_to_disk`, or a data set of the hub by its name.

    `subset` is the hub's configuration; the hub needs the extra `hf`.
    """

    name: str
    kind: Literal["huggingface"] = "huggingface"
    split: str = "train"
    subset: str = ""


Source = Scenes | Tfds | ArrayRecords | Tar | Parquet | Folder | HuggingFace


@dataclass(frozen=True)
class Holdout:
    """Keeps or sets aside a `share` of the groups: records with one value of the field `by`.

    A fixed hash of the group's name decides its side, so no group is ever on both.
    """

    by: str
    share: float = 0.1
    keep: Literal["train", "test"] = "train"


@dataclass(frozen=True)
class Data:
    """Where examples come from and what happens to them before the model's own preprocessing.

    `fields` maps what the model reads (image, text, label) to the record's names, `a|b` standing
    for the first it has; `where` keeps records whose field has one of the values; `augment` lists
    transforms as plain data, `{"op": NAME, ...}`, for training alone. When shuffled, `group`
    consecutive records stay together. `workers` are processes that read and decode (0: threads of
    this one); more than a share of `max_broken` unreadable records ends the run.
    """

    source: Source
    fields: dict[str, str] = field(default_factory=lambda: {"image": "image", "text": "text"})
    augment: tuple[dict[str, Any], ...] = ()
    where: dict[str, tuple[int | str, ...]] = field(default_factory=dict)
    holdout: Holdout | None = None
    shuffle: bool = True
    group: int = 1
    workers: int = 0
    max_broken: float = 0.01
