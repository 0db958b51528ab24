"""Any `tokenizer.json` of the tokenizers library: CLIP, BERT, Gemma, T5, Llama, one's own."""

import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from multimodal.data.tokenizers.tokenizer import CHARACTERS_PER_TOKEN, rows_of_lists
from multimodal.errors import UserError


class FileTokenizer:
    """A `tokenizer.json`, whose start and end tokens are those that its post-processor adds.

    What it does not say is found by customary names; a vocabulary without a padding token pads
    with its end token, as CLIP's does. Its settings of truncation and padding to a length are
    ignored: `encode_batch` puts the special tokens itself, so that the length and the cut are the
    same for every vocabulary.
    """

    _names = {
        "pad": ("<pad>", "[PAD]", "<|pad|>"),
        "start": ("<|startoftext|>", "<s>", "[CLS]", "<bos>", "<|begin_of_text|>"),
        "end": ("<|endoftext|>", "</s>", "[SEP]", "<eos>", "<|end_of_text|>"),
        "mask": ("<mask>", "[MASK]", "<|mask|>"),
        "unknown": ("<unk>", "[UNK]", "<|unk|>"),
    }

    def __init__(self, path: str):
        from tokenizers import Tokenizer as Backend

        try:
            content = Path(path).read_bytes()
            self._backend = Backend.from_buffer(content)
            self._settings = json.loads(content)
        except Exception as error:  # the library raises plain Exception
            raise UserError(f"preprocessing.tokenizer: cannot read {path}: {error}") from None
        self.file = ("tokenizer.json", content)
        self._backend.no_padding()
        self._backend.no_truncation()
        vocabulary = self._backend.get_vocab(with_added_tokens=True)
        self.vocab_size = max(vocabulary.values(), default=-1) + 1  # ids may leave gaps
        before, after = added_around(self._settings.get("post_processor"))
        self.start_id = before if before >= 0 else self._named("start")
        self.end_id = after if after >= 0 else self._named("end")
        self.mask_id = self._named("mask")
        unknown = self._settings["model"].get("unk_token")
        self.unknown_id = vocabulary.get(unknown, self._named("unknown"))
        own = (self._settings.get("padding") or {}).get("pad_id", -1)
        found = (i for i in (own, self._named("pad"), self.end_id) if 0 <= i < self.vocab_size)
        self.pad_id = next(found, 0)

    def _named(self, use: str) -> int:
        found = (self._backend.token_to_id(name) for name in self._names[use])
        return next((i for i in found if i is not None), -1)

    @cached_property
    def fingerprint(self) -> str:
        """Of all that decides ids: neither layout nor what is ignored changes it."""
        ignored = ("version", "truncation", "padding", "post_processor")
        deciding = {k: v for k, v in self._settings.items() if k not in ignored}
        return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()[:16]

    def encode_batch(
        self, texts: Sequence[str], length: int, add_start: bool = True, add_end: bool = True
    ) -> np.ndarray:
        texts = [text[: CHARACTERS_PER_TOKEN * length] for text in texts]
        encoded = self._backend.encode_batch_fast(texts, add_special_tokens=False)
        return rows_of_lists(self, (one.ids for one in encoded), length, add_start, add_end)

    def decode(self, ids: Sequence[int]) -> str:
        ids = [int(i) for i in ids]
        if self.end_id in ids[1:]:
            ids = ids[: ids.index(self.end_id, 1)]
        return self._backend.decode(ids, skip_special_tokens=True)

    def pieces(self, text: str) -> list[tuple[int, str]]:
        one = self._backend.encode(text, add_special_tokens=False)
        return list(zip(one.ids, one.tokens, strict=True))

    def words(self, text: str, most: int) -> list[list[tuple[int, str]]]:
        """The first `most` of the `pieces`, word by word as the vocabulary takes a text apart."""
        one = self._backend.encode(text, add_special_tokens=False)
        pieces = itertools.islice(zip(one.word_ids, one.ids, one.tokens, strict=True), most)
        grouped = itertools.groupby(pieces, key=lambda piece: piece[0])
        return [[(i, spelt) for _, i, spelt in word] for _, word in grouped]

    def tokens(self) -> list[str | None]:
        return [self._backend.id_to_token(i) for i in range(self.vocab_size)]


def added_around(post_processor: dict[str, Any] | None) -> tuple[int, int]:
    """Ids that a post-processor puts before and after a single text; -1: none."""
    start = end = -1
    for step in _steps(post_processor):
        if step["type"] in ("BertProcessing", "RobertaProcessing"):
            start, end = step["cls"][1], step["sep"][1]
        elif step["type"] == "TemplateProcessing":
            text_seen = False
            for part in step["single"]:
                if "Sequence" in part:
                    text_seen = True
                    continue
                token = step["special_tokens"][part["SpecialToken"]["id"]]["ids"][0]
                if text_seen and end < 0:
                    end = token
                elif not text_seen and start < 0:
                    start = token
    return start, end


def _steps(post_processor: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    if post_processor is None:
        return
    if post_processor["type"] == "Sequence":
        for step in post_processor["processors"]:
            yield from _steps(step)
    else:
        yield post_processor
