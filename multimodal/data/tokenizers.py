"""Texts to token ids: UTF-8 bytes, which need no vocabulary, or any `tokenizer.json`."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from multimodal.errors import UserError


class Tokenizer(Protocol):
    """Texts to ids and back. Special ids are -1 where the vocabulary has none."""

    vocab_size: int
    pad_id: int
    start_id: int
    end_id: int
    mask_id: int

    def encode_batch(
        self, texts: Sequence[str], length: int, add_start: bool = True, add_end: bool = True
    ) -> np.ndarray:
        """int32 [texts, length], padded on the right; a long text is cut, its end token stays."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids` without special tokens, up to the first end token."""
        ...


class ByteTokenizer:
    """Every byte of the UTF-8 text is a token; ids 0 to 3 are pad, start, end and mask."""

    pad_id, start_id, end_id, mask_id = 0, 1, 2, 3
    vocab_size = 260
    _offset = 4

    def encode_batch(
        self, texts: Sequence[str], length: int, add_start: bool = True, add_end: bool = True
    ) -> np.ndarray:
        ids = np.full((len(texts), length), self.pad_id, np.int32)
        for row, text in zip(ids, texts, strict=True):
            # No more characters than bytes fit, so a huge text costs nothing.
            raw = text[:length].encode("utf-8", "replace")[: max(length - add_start - add_end, 0)]
            row[add_start : add_start + len(raw)] = np.frombuffer(raw, np.uint8)
            row[add_start : add_start + len(raw)] += self._offset
            if add_start:
                row[0] = self.start_id
            if add_end:
                row[min(add_start + len(raw), length - 1)] = self.end_id
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        raw = bytearray()
        for i in map(int, ids):
            if i == self.end_id:
                break
            if i >= self._offset:
                raw.append(i - self._offset)
        return raw.decode("utf-8", "replace")


class FileTokenizer:
    """A `tokenizer.json` of the tokenizers library; special tokens by their customary names.

    `encode_batch` puts the start and end tokens itself, whatever the file's own post-processor
    would do, so that the length and the cut are the same for every vocabulary.
    """

    _names = {
        "pad": ("<pad>", "[PAD]", "<|pad|>", "<|endoftext|>"),
        "start": ("<|startoftext|>", "<s>", "[CLS]", "<bos>", "<|begin_of_text|>"),
        "end": ("<|endoftext|>", "</s>", "[SEP]", "<eos>", "<|end_of_text|>"),
        "mask": ("<mask>", "[MASK]", "<|mask|>"),
    }

    def __init__(self, path: str):
        from tokenizers import Tokenizer as Backend

        try:
            self._backend = Backend.from_file(path)
        except Exception as error:  # the library raises plain Exception
            raise UserError(f"preprocessing.tokenizer: cannot read {path}: {error}") from None
        own = self._backend.padding  # what the file says, before it is switched off
        self._backend.no_padding()
        self._backend.no_truncation()
        self.vocab_size = self._backend.get_vocab_size()
        ids = {use: self._first(names) for use, names in self._names.items()}
        self.pad_id = (own or {}).get("pad_id", max(ids["pad"], 0))
        self.start_id, self.end_id, self.mask_id = ids["start"], ids["end"], ids["mask"]

    def _first(self, names: Sequence[str]) -> int:
        found = (self._backend.token_to_id(name) for name in names)
        return next((i for i in found if i is not None), -1)

    def encode_batch(
        self, texts: Sequence[str], length: int, add_start: bool = True, add_end: bool = True
    ) -> np.ndarray:
        for wanted, token, name in (
            (add_start, self.start_id, "start"),
            (add_end, self.end_id, "end"),
        ):
            if wanted and token < 0:
                raise UserError(
                    f"preprocessing.add_{name}: the tokenizer has no {name} token; set it to False"
                )
        room = max(length - add_start - add_end, 0)
        # A token holds a few dozen characters at most: no need to tokenise a whole book.
        texts = [text[: 64 * length] for text in texts]
        ids = np.full((len(texts), length), self.pad_id, np.int32)
        encoded = self._backend.encode_batch_fast(texts, add_special_tokens=False)
        for row, one in zip(ids, encoded, strict=True):
            tokens = one.ids[:room]
            tokens = [self.start_id] * add_start + tokens + [self.end_id] * add_end
            row[: len(tokens)] = tokens
        return ids

    def save(self, path: str) -> None:
        """Writes the `tokenizer.json` that this tokenizer was read from."""
        self._backend.save(path)

    def decode(self, ids: Sequence[int]) -> str:
        ids = [int(i) for i in ids]
        if self.end_id in ids[1:]:
            ids = ids[: ids.index(self.end_id, 1)]
        return self._backend.decode(ids, skip_special_tokens=True)


@functools.cache
def load_tokenizer(name: str) -> Tokenizer:
    """`"bytes"`, or the tokenizer of a file `.../tokenizer.json`. Raises UserError for others."""
    if name == "bytes":
        return ByteTokenizer()
    path = Path(name).expanduser()
    if path.is_dir():
        path /= "tokenizer.json"
    if not path.is_file():
        raise UserError(
            f"preprocessing.tokenizer: {name!r} is neither 'bytes' nor an existing file"
        )
    return FileTokenizer(str(path))
