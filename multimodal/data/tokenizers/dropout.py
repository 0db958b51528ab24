"""BPE dropout: words fall into other pieces each time, so that those of rare words are learnt."""

import functools
import itertools
import json
import math
import random
from collections.abc import Callable, Sequence

import numpy as np

from multimodal.data.tokenizers.file import FileTokenizer
from multimodal.data.tokenizers.tokenizer import (
    CHARACTERS_PER_TOKEN,
    Tokenizer,
    room,
    rows_of_lists,
)
from multimodal.errors import UserError

_NEVER = math.inf
_REMEMBERED = 1 << 16  # words


class BpeDropout:
    """A byte-pair vocabulary that leaves out each merge it could make with probability `share`,
    drawn anew for every merge of a word (Provilkov et al. 2020, arXiv:1910.13267).

    The tokenizers library does so too, but not from a seed. What merges alone do not explain
    (special tokens, unknown characters, bytes in their place) stays as it is. Raises UserError for
    a tokenizer that is no BPE.
    """

    def __init__(self, tokenizer: Tokenizer, share: float, seed: int):
        model = {}
        if isinstance(tokenizer, FileTokenizer):
            model = json.loads(tokenizer.file[1])["model"]
        if model.get("type") != "BPE" or model.get("continuing_subword_prefix"):
            raise UserError(
                f"data.bpe_dropout={share}: preprocessing.tokenizer merges no pairs; give it the "
                "tokenizer.json of a BPE, or leave bpe_dropout at 0"
            )
        self._tokenizer, self._share, self._seed = tokenizer, share, seed
        self._ids = model["vocab"]
        self._word_end = model.get("end_of_word_suffix") or ""
        pairs = (pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"])
        self._ranks = {tuple(pair): rank for rank, pair in enumerate(pairs)}
        self._usual = functools.lru_cache(_REMEMBERED)(
            lambda word: self._merged(word, lambda: True)
        )

    def encode_batch(
        self,
        texts: Sequence[str],
        positions: Sequence[int],
        length: int,
        add_start: bool = True,
        add_end: bool = True,
    ) -> np.ndarray:
        """As `Tokenizer.encode_batch`; seed and position decide what is left out of a text."""
        most = room(length, add_start, add_end)
        tokens = []
        for text, position in zip(texts, positions, strict=True):
            rng = random.Random(f"{self._seed} {position}")
            words = self._tokenizer.words(text[: CHARACTERS_PER_TOKEN * length], most)
            tokens.append([token for word in words for token in self._split(word, rng)])
        return rows_of_lists(self._tokenizer, tokens, length, add_start, add_end)

    def _split(self, word: list[tuple[int, str]], rng: random.Random) -> list[int]:
        """Other tokens of the same word."""
        usual = [token for token, _ in word]
        spelt = "".join(token for _, token in word)
        if self._usual(spelt) != usual:
            return usual
        return self._merged(spelt, lambda: rng.random() >= self._share)

    def _merged(self, word: str, kept: Callable[[], bool]) -> list[int]:
        """Merges the pair that is first in the vocabulary of those kept, until there is none."""
        symbols = self._symbols(word)
        ranks = [self._rank(*pair) for pair in itertools.pairwise(symbols)]
        while True:
            first, at = _NEVER, None
            for i, rank in enumerate(ranks):
                if rank < first and kept():  # a pair that would not be first need not be drawn
                    first, at = rank, i
            if at is None:
                return [self._ids.get(symbol, -1) for symbol in symbols]
            symbols[at : at + 2] = [symbols[at] + symbols[at + 1]]
            del ranks[at]
            for i in (at - 1, at):
                if 0 <= i < len(ranks):
                    ranks[i] = self._rank(symbols[i], symbols[i + 1])

    def _rank(self, left: str, right: str) -> float:
        return self._ranks.get((left, right), _NEVER)

    def _symbols(self, word: str) -> list[str]:
        if not self._word_end or not word.endswith(self._word_end):
            return list(word)
        letters = word.removesuffix(self._word_end)
        return [*letters[:-1], letters[-1:] + self._word_end]
