"""A SentencePiece `.model`, as SigLIP, T5 and Gemma use it; needs the extra `sentencepiece`."""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from multimodal.data.tokenizers.tokenizer import CHARACTERS_PER_TOKEN, rows_of_lists
from multimodal.errors import UserError


class SentencePieceTokenizer:
    """A `.model` file; without a padding token of its own it pads with its end token.

    (SigLIP pads with its end token although it has one of its own: `preprocessing.pad_id`.)
    """

    def __init__(self, path: str):
        try:
            from sentencepiece import SentencePieceProcessor
        except ImportError:
            raise UserError(
                f"preprocessing.tokenizer: {path} needs SentencePiece; "
                "install it with pip install 'multimodal[sentencepiece]'"
            ) from None
        try:
            content = Path(path).read_bytes()
            backend = SentencePieceProcessor(model_proto=content)
            self.vocab_size = backend.get_piece_size()
        except (OSError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"preprocessing.tokenizer: cannot read {path}: {reason}") from None
        if not self.vocab_size:
            raise UserError(f"preprocessing.tokenizer: cannot read {path}: it is empty")
        self._backend = backend
        self.file = ("tokenizer.model", content)
        self.start_id, self.end_id = backend.bos_id(), backend.eos_id()
        self.unknown_id = backend.unk_id()
        self.pad_id = next((i for i in (backend.pad_id(), self.end_id) if i >= 0), 0)
        mask = backend.piece_to_id("<mask>")
        self.mask_id = -1 if mask == self.unknown_id else mask

    @cached_property
    def fingerprint(self) -> str:
        return hashlib.sha256(self.file[1]).hexdigest()[:16]

    def encode_batch(
        self, texts: Sequence[str], length: int, add_start: bool = True, add_end: bool = True
    ) -> np.ndarray:
        texts = [text[: CHARACTERS_PER_TOKEN * length] for text in texts]
        tokens = self._backend.encode(texts, out_type=int)
        return rows_of_lists(self, tokens, length, add_start, add_end)

    def decode(self, ids: Sequence[int]) -> str:
        ids = [int(i) for i in ids]
        if self.end_id in ids[1:]:
            ids = ids[: ids.index(self.end_id, 1)]
        special = {self.pad_id, self.start_id, self.end_id, self.mask_id}
        return self._backend.decode([i for i in ids if i not in special])

    def pieces(self, text: str) -> list[tuple[int, str]]:
        ids = self._backend.encode(text, out_type=int)
        return [(i, self._backend.id_to_piece(i)) for i in ids]

    def tokens(self) -> list[str | None]:
        return [self._backend.id_to_piece(i) for i in range(self.vocab_size)]
