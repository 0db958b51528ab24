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
    members; `json.a.b` reaches into a JSON member. `subset` is a DataComp subset: an .npy of the
    `json.uid` of the records to keep.
    """

    path: str
    kind: Literal["tar"] = "tar"
    subset: str = ""


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


@dataclass(frozen=True)
class Holdout:
    """Keeps or sets aside a `share` of the groups: records with one value of the field `by`.

    A fixed hash of the group's name decides its side, so no group is ever on both; another `seed`
    is another split.
    """

    by: str
    share: float = 0.1
    keep: Literal["train", "test"] = "train"
    seed: int = 0


@dataclass(frozen=True)
class Part:
    """One source of a mixture; `weight` is its share of the examples, relative to the others'."""

    source: Scenes | Tfds | ArrayRecords | Tar | Parquet | Folder | HuggingFace
    weight: float = 1.0
    fields: dict[str, str] = field(default_factory=lambda: {"image": "image", "text": "text"})
    where: dict[str, tuple[int | str, ...]] = field(default_factory=dict)
    holdout: Holdout | None = None


@dataclass(frozen=True)
class Mixture:
    """Several sources at once, each walking its own epochs; evaluation takes them one by one.

    A record has the names of its part's `fields`, and `part`, the part's own name.
    """

    parts: dict[str, Part]
    kind: Literal["mixture"] = "mixture"


Source = Scenes | Tfds | ArrayRecords | Tar | Parquet | Folder | HuggingFace | Mixture


@dataclass(frozen=True)
class Tags:
    """Of the record's `tags`, a list of words or one by language, training puts up to `most` into a
    `share` of the texts: half of the time after the text, half of the time in its place."""

    share: float = 0.5
    most: int = 3


@dataclass(frozen=True)
class Data:
    """Where examples come from and what happens to them before the model's own preprocessing.

    `fields` maps what the model reads (image, text, label, image_features) to the record's names,
    `a|b` standing for the first it has, and `tags`, which some records may lack; `where` keeps
    records whose field has one of the values; `augment` lists transforms as plain data,
    `{"op": NAME, ...}`, for training alone.

    A text is put into the `{}` of one of the `templates` (evaluation: the first). Of texts by
    language, those of `languages` are used, in proportion to their weights (none: all, equally).
    `bpe_dropout`: probability with which a BPE leaves out a merge of a text of training.
    Training draws `texts` texts of a record each time, and its picture is contrasted with each.

    Records come once an epoch, or are drawn with "replacement". When shuffled, `group` consecutive
    records stay together; `window` such groups are mixed record by record. `workers` are processes
    that read and decode (0: threads of this one); more than a share of `max_broken` unreadable
    records ends the run.
    """

    source: Source
    fields: dict[str, str] = field(default_factory=lambda: {"image": "image", "text": "text"})
    augment: tuple[dict[str, Any], ...] = ()
    where: dict[str, tuple[int | str, ...]] = field(default_factory=dict)
    holdout: Holdout | None = None
    templates: tuple[str, ...] = ()
    languages: dict[str, float] = field(default_factory=dict)
    tags: Tags = field(default_factory=Tags)
    bpe_dropout: float = 0.0
    texts: int = 1
    shuffle: bool = True
    sampling: Literal["epochs", "replacement"] = "epochs"
    group: int = 1
    window: int = 1
    workers: int = 0
    max_broken: float = 0.01
