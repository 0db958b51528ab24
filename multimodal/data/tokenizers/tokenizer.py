"""What every tokenizer can do, and how its tokens become one array."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np

from multimodal.errors import UserError


class Tokenizer(Protocol):
    """Texts to ids and back. Special ids are -1 where the vocabulary has none.

    `fingerprint` is equal for vocabularies that give the same ids, "" for one that is no file;
    `file` is the name and the content of that file, which travel with a model.
    """

    vocab_size: int
    pad_id: int
    start_id: int
    end_id: int
    mask_id: int
    fingerprint: str
    file: tuple[str, bytes] | None

    def encode_batch(
        self, texts: Sequence[str], length: int, add_start: bool = True, add_end: bool = True
    ) -> np.ndarray:
        """int32 [texts, length], padded on the right; a long text is cut, its end token stays."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids` without special tokens, up to the first end token."""
        ...

    def pieces(self, text: str) -> list[tuple[int, str]]:
        """(id, token as the vocabulary spells it) of a text, without special tokens, for people."""
        ...

    def tokens(self) -> list[str | None]:
        """Every token as the vocabulary spells it, by its id; None where an id has none."""
        ...


def describe_tokenizer(tokenizer: Tokenizer) -> dict[str, Any]:
    """What a checkpoint remembers of a tokenizer, as JSON: the name of its file, its fingerprint,
    its size and its special ids."""
    names = ("fingerprint", "vocab_size", "pad_id", "start_id", "end_id")
    file = tokenizer.file[0] if tokenizer.file else None
    return {"file": file} | {name: getattr(tokenizer, name) for name in names}


# A token holds a few dozen characters at most: no need to tokenise a whole book.
CHARACTERS_PER_TOKEN = 64


def rows(
    tokenizer: Tokenizer,
    tokens: np.ndarray,  # int [tokens], of one text after the other, without special tokens
    counts: np.ndarray,  # int [texts], how many of them each text has, at most `room`
    length: int,
    add_start: bool,
    add_end: bool,
) -> np.ndarray:
    """The result of `Tokenizer.encode_batch`, filled at once.

    Raises UserError when a start or end token is wanted that the vocabulary does not have.
    """
    for wanted, token, name in (
        (add_start, tokenizer.start_id, "start"),
        (add_end, tokenizer.end_id, "end"),
    ):
        if wanted and token < 0:
            raise UserError(
                f"preprocessing.add_{name}: the tokenizer has no {name} token; set it to False"
            )
    ids = np.full((len(counts), length), tokenizer.pad_id, np.int32)
    place, counts = np.arange(length) - add_start, counts[:, None]
    ids[(place >= 0) & (place < counts)] = tokens  # row by row, as they lie in `tokens`
    if add_start:
        ids[:, 0] = tokenizer.start_id
    if add_end:
        ids[place == np.minimum(counts, length - 1 - add_start)] = tokenizer.end_id
    return ids


def rows_of_lists(
    tokenizer: Tokenizer,
    tokens: Iterable[Sequence[int]],  # of each text, without special tokens, of any length
    length: int,
    add_start: bool,
    add_end: bool,
) -> np.ndarray:
    """As `rows`, from one list a text, which is cut to the room that there is."""
    most = room(length, add_start, add_end)
    tokens = [one[:most] for one in tokens]
    counts = np.fromiter(map(len, tokens), np.int64, len(tokens))
    flat = np.fromiter(itertools.chain.from_iterable(tokens), np.int32, int(counts.sum()))
    return rows(tokenizer, flat, counts, length, add_start, add_end)


def room(length: int, add_start: bool, add_end: bool) -> int:
    """Tokens of `length` that are left to the text itself."""
    return max(length - add_start - add_end, 0)
