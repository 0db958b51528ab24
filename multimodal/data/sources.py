"""From the settings of a source to its records: opened, filtered, and split by leakage group."""

import contextlib
import dataclasses
import hashlib
import logging
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from multimodal import config
from multimodal.data.check import check
from multimodal.data.mixture import MixtureSource, Part
from multimodal.data.record import BrokenRecord, Record, Source, look_up
from multimodal.errors import UserError

log = logging.getLogger(__name__)


def open_source(
    source: config.Source, data_dir: str = "", fields: Iterable[str] | None = None
) -> Source:
    """The source that `source` describes; only the top-level values that `fields` name are read.

    Relative paths are looked for below `data_dir` when it is given.
    """
    fields = None if fields is None else tuple(fields)
    # A source's own dependencies are loaded only where it is used.
    match source:
        case config.Scenes():
            from multimodal.data import scenes
            from multimodal.data.tfds import TfdsSource

            folder = scenes.prepare(
                data_dir or "data",
                seed=source.seed,
                image_size=source.image_size,
                train=source.train,
            )
            return Generated(TfdsSource(str(folder), source.split, fields))
        case config.Tfds():
            from multimodal.data.tfds import TfdsSource, folder_of

            return TfdsSource(folder_of(source.name, data_dir), source.split, fields)
        case config.ArrayRecords():
            from multimodal.data.array_record import ArrayRecordSource

            return ArrayRecordSource(_below(data_dir, source.path), fields)
        case config.Tar():
            from multimodal.data.tar import TarSource

            tars = TarSource(_below(data_dir, source.path), fields)
            if not source.subset:
                return tars
            from multimodal.data.datacomp import chosen

            return Selection(tars, chosen(tars, _below(data_dir, source.subset)))
        case config.Parquet():
            from multimodal.data.parquet import ParquetSource

            return ParquetSource(_below(data_dir, source.path), fields)
        case config.Folder():
            from multimodal.data.folder import open_folder

            return open_folder(_below(data_dir, source.path), source.table, source.image, fields)
        case config.HuggingFace():
            from multimodal.data.huggingface import open_huggingface

            return open_huggingface(source.name, data_dir, source.split, source.subset, fields)
        case config.Mixture():
            return _mix(source, data_dir)
    raise UserError(f"data.source: no source of kind {getattr(source, 'kind', source)!r}")


class Selection:
    """Some records of a source, by index."""

    def __init__(self, source: Source, indices: np.ndarray):
        self.source, self.indices = source, indices

    @property
    def shards(self) -> int:
        return self.source.shards

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Record:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.source[int(self.indices[index])]


class Generated(Selection):
    """All records of a source that was made here: in how few files does not matter."""

    def __init__(self, source: Source):
        super().__init__(source, np.arange(len(source)))

    @property
    def shards(self) -> int:
        return len(self)


def open_data(
    data: config.Data | config.Part, data_dir: str = "", extra: Iterable[str] = ()
) -> Source:
    """The records of `data` after `where` and `holdout`, holding `data.fields` and `extra`.

    Raises UserError when none is left, or when no record at hand has one of the fields.
    """
    if isinstance(data, config.Data):
        check(data)
    source = open_source(data.source, data_dir, (*data.fields.values(), *extra))
    if data.where or data.holdout:
        source = Selection(source, _select(data, data_dir))
    if len(source) == 0:
        raise UserError(f"data: no record of {data.source} is left by where and holdout")
    if not isinstance(source, MixtureSource):  # its parts have been through here
        asked = {f"data.fields.{name}": path for name, path in data.fields.items()}
        _check_fields(source, asked, data.source, data_dir)
    return source


def _mix(mixture: config.Mixture, data_dir: str) -> Source:
    parts = {}
    # By name: settings come back from a file in the order of the alphabet.
    for name, part in sorted(mixture.parts.items()):
        try:
            parts[name] = Part(open_data(part, data_dir), part.fields, part.weight)
        except UserError as error:
            raise UserError(f"data.source.parts.{name}: {error}") from None
    return MixtureSource(parts)


def in_test(group: Any, share: float, seed: int = 0) -> bool:
    """Whether a leakage group belongs to the held-out `share`: a fixed hash of its name decides.

    Neither the order nor the number of records matters, so a group stays on its side when data are
    added, and no group is ever on both.
    """
    name = f"{seed}/{group}" if seed else str(group)
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64


_selections: dict[str, tuple[np.ndarray, np.ndarray]] = {}


def _select(data: config.Data | config.Part, data_dir: str) -> np.ndarray:
    """Indices of the records kept, worked out once a process: both sides of a split together."""
    split = dataclasses.replace(data.holdout, keep="train") if data.holdout else None
    asked = repr((data.source, data_dir, sorted(data.where.items()), split))
    if asked not in _selections:
        names = {f"data.where.{name}": name for name in data.where}
        names |= {"data.holdout.by": split.by} if split else {}
        source = open_source(data.source, data_dir, names.values())
        sides = _sides(source, data.where, split)
        if not any(map(len, sides)):
            _check_fields(source, names, data.source, data_dir)
        _selections[asked] = sides
    train, test = _selections[asked]
    return test if data.holdout and data.holdout.keep == "test" else train


def _sides(
    source: Source, where: dict[str, tuple[int | str, ...]], split: config.Holdout | None
) -> tuple[np.ndarray, np.ndarray]:
    """Indices kept and held out. One whose criteria cannot be read is on no side of a split."""
    train, test, unreadable = [], [], 0
    for i in range(len(source)):
        try:
            record = source[i]
            if all(_matches(look_up(record, n), values) for n, values in where.items()):
                held_out = split and in_test(look_up(record, split.by), split.share, split.seed)
                (test if held_out else train).append(i)
        except (BrokenRecord, KeyError) as error:
            unreadable += 1
            problem = error
    if 0 < unreadable < len(source):
        log.warning(
            "%d of %d records left out of where and holdout: %s", unreadable, i + 1, problem
        )
    return np.array(train, np.int64), np.array(test, np.int64)


def _matches(value: Any, accepted: tuple[int | str, ...]) -> bool:
    return any(v in accepted for v in value) if isinstance(value, list) else value in accepted


def _check_fields(
    source: Source, asked: Mapping[str, str], settings: config.Source, data_dir: str
) -> None:
    """A field that none of the first records has is a misspelt name, not broken data. `asked`:
    which setting names which. `source` may be a part of the records; what only this part lacks is
    no misspelt name either."""
    first = _readable(source, 16)
    for name, path in asked.items():
        if first and not _any_has(first, path):
            records = _readable(open_source(settings, data_dir), 4)
            if not _any_has(records, path):
                known = ", ".join(sorted(set().union(*records)))
                raise UserError(f"{name}: no record has {path!r}; records have: {known}")


def _readable(source: Source, most: int) -> list[Record]:
    """Those of the first `most` records that are not broken."""
    records = []
    for i in range(min(len(source), most)):
        with contextlib.suppress(BrokenRecord):
            records.append(source[i])
    return records


def _any_has(records: list[Record], path: str) -> bool:
    for record in records:
        with contextlib.suppress(KeyError):
            look_up(record, path)
            return True
    return False


def _below(data_dir: str, path: str) -> str:
    """Each of the paths that `::` joins, below `data_dir` unless it is absolute."""
    if not data_dir:
        return path
    paths = path.split("::")
    return "::".join(p if p.startswith(("/", "~")) else f"{data_dir}/{p}" for p in paths)
