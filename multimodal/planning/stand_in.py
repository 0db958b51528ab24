"""A vocabulary that has no words, for planning a run whose tokenizer file is not at hand."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from multimodal.config import Config, parts


@dataclass(frozen=True)
class StandIn:
    """The size and the special ids that a model asks of its tokenizer; it tokenises nothing."""

    vocab_size: int
    pad_id: int
    start_id: int
    end_id: int
    mask_id: int
    fingerprint: str = ""
    file: tuple[str, bytes] | None = None

    def encode_batch(
        self, texts: Sequence[str], length: int, add_start: bool = True, add_end: bool = True
    ) -> np.ndarray:
        return np.full((len(texts), length), self.pad_id, np.int32)

    def decode(self, ids: Sequence[int]) -> str:
        return ""

    def pieces(self, text: str) -> list[tuple[int, str]]:
        return []


def stand_in(config: Config) -> StandIn:
    """The tokenizer that the model of `config` is made for, as far as its settings tell."""
    found = [part for _, part in parts(config.model)]
    sizes = [part.vocab_size for part in found if hasattr(part, "vocab_size")]
    pads = [part.pad_id for part in found if hasattr(part, "pad_id")]
    ends = [part.end_id for part in found if hasattr(part, "end_id")]
    pad = config.preprocessing.pad_id
    pad = (pads or [0])[0] if pad is None else pad
    size = min(sizes, default=8)
    return StandIn(size, pad, size - 1, (ends or [2])[0], size - 2)
