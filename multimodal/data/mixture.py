"""Several sources as one: their records one part after another, under the names of the mixture."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from multimodal.data.record import BrokenRecord, Record, Source, locate, look_up


@dataclass(frozen=True)
class Part:
    """`fields`: the mixture's names -> the names in `source`."""

    source: Source
    fields: dict[str, str]
    weight: float


class MixtureSource:
    """The parts one after another; a record holds the fields of its part, and `part`, its name.

    `sizes` and `weights` are what `order.Order` needs to take from them in turn.
    """

    def __init__(self, parts: dict[str, Part]):
        self._parts = parts
        self.sizes = tuple(len(part.source) for part in parts.values())
        self.weights = tuple(part.weight for part in parts.values())
        self._starts = np.cumsum([0, *self.sizes])

    @property
    def shards(self) -> int:
        return sum(part.source.shards for part in self._parts.values())

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> Record:
        number, place = locate(index, self._starts)
        name, part = list(self._parts.items())[number]
        try:
            record = part.source[place]
        except BrokenRecord as error:
            raise BrokenRecord(f"{name}/{error.key}", error.reason) from None
        values: dict[str, Any] = {"key": f"{name}/{record['key']}", "part": name}
        for field, path in part.fields.items():
            try:
                values[field] = look_up(record, path)
            except KeyError:
                continue  # the pipeline says so where the field is needed
        return values
