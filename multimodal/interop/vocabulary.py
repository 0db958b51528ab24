"""The tokenizer of other people's folders, and whether it suits the model beside it."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from multimodal.data.tokenizers.train import END, START, clip_file
from multimodal.errors import UserError
from multimodal.preprocessing import Preprocessing

_MODELS = ("tokenizer.model", "spiece.model", "sentencepiece.model")
_UNSET = 10**6  # transformers writes 1e30 where a tokenizer knows no longest text


def tokenizer_file(folder: Path) -> tuple[str, bytes] | None:
    """Name and content of the tokenizer of a folder, in a form that is read here: tokenizer.json,
    the same made of vocab.json and merges.txt or of vocab.txt, or a SentencePiece model."""
    if (folder / "tokenizer.json").is_file():
        return "tokenizer.json", (folder / "tokenizer.json").read_bytes()
    for name in _MODELS:
        if (folder / name).is_file():
            return "tokenizer.model", (folder / name).read_bytes()
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return "tokenizer.json", _of_merges(folder)
    if (folder / "vocab.txt").is_file():
        return "tokenizer.json", _of_words(folder / "vocab.txt", told_of(folder))
    return None


def tokenizer_at(path: Path) -> tuple[str, bytes]:
    """Name and content of the tokenizer at `path`, a file or a folder. Raises UserError."""
    if path.is_dir() and (found := tokenizer_file(path)):
        return found
    if not path.is_file():
        raise UserError(f"--tokenizer={path}: there is no tokenizer")
    return f"tokenizer{path.suffix if path.suffix == '.model' else '.json'}", path.read_bytes()


def told_of(folder: Path) -> dict[str, Any]:
    """What tokenizer_config.json says; nothing where there is none. Raises UserError."""
    return read_json(folder / "tokenizer_config.json", needed=False)


def with_vocabulary(
    preprocessing: Preprocessing, file: tuple[str, bytes], told: dict[str, Any]
) -> Preprocessing:
    """`preprocessing` as the tokenizer's files say.

    Raises UserError where they disagree with each other about the case of texts, or with the model
    about their length.
    """
    length = told.get("model_max_length")
    if length is not None and length < _UNSET and length != preprocessing.length:
        raise UserError(
            f"tokenizer_config.json: model_max_length={length}, but the model's config makes the "
            f"length {preprocessing.length}; one of the two files is wrong, mend it"
        )
    name, content = file
    normalizer = None
    if name == "tokenizer.json":
        try:
            normalizer = json.loads(content).get("normalizer")
        except (ValueError, AttributeError) as error:
            raise UserError(f"tokenizer.json is not one: {error}") from None
    lowers, asked = _lowers(normalizer), told.get("do_lower_case")
    if asked is False and lowers:
        raise UserError(
            "tokenizer_config.json: do_lower_case=false, but the normalizer of tokenizer.json "
            "lowers the case; one of the two files is wrong, mend it"
        )
    if asked is None and normalizer and normalizer["type"] == "BertNormalizer":
        asked = lowers  # a cased BERT's need not say it elsewhere
    if asked is not None:
        preprocessing = dataclasses.replace(preprocessing, lowercase=asked)
    return preprocessing


def read_json(path: Path, needed: bool = True) -> dict[str, Any]:
    """A file of settings. Raises UserError where it cannot be read, or is `needed` and missing."""
    if not path.is_file() and not needed:
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise UserError(f"{path} is not a table of settings")
    return value


def _lowers(normalizer: dict[str, Any] | None) -> bool:
    if normalizer is None:
        return False
    inner = normalizer.get("normalizers", ())
    return (
        normalizer["type"] == "Lowercase"
        or (normalizer["type"] == "BertNormalizer" and bool(normalizer["lowercase"]))
        or any(map(_lowers, inner))
    )


def _of_merges(folder: Path) -> bytes:
    """CLIP's, the only one of its kind that is read here: start and end have the last ids."""
    ids = read_json(folder / "vocab.json")
    tokens = sorted(ids, key=ids.get)
    if tokens[-2:] != [START, END] or list(map(ids.get, tokens)) != list(range(len(ids))):
        raise UserError(
            f"{folder / 'vocab.json'} is not CLIP's kind of vocabulary, which ends in {START} and "
            f"{END}; bring a tokenizer.json"
        )
    lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
    merges = [tuple(line.split()) for line in lines if line and not line.startswith("#version")]
    if any(len(pair) != 2 for pair in merges):
        raise UserError(f"{folder / 'merges.txt'}: each line has to be two tokens")
    return clip_file(tokens, merges)


def _of_words(path: Path, told: dict[str, Any]) -> bytes:
    from tokenizers import BertWordPieceTokenizer

    lower = told.get("do_lower_case", True)
    return BertWordPieceTokenizer(str(path), lowercase=lower).to_str(pretty=True).encode()
