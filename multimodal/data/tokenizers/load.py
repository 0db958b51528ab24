"""From the settings of a model to its tokenizer."""

import copy
import functools
import tempfile
from pathlib import Path

from multimodal.data.tokenizers.file import FileTokenizer
from multimodal.data.tokenizers.spm import SentencePieceTokenizer
from multimodal.data.tokenizers.tokenizer import Tokenizer
from multimodal.data.tokenizers.utf8 import ByteTokenizer
from multimodal.errors import UserError

# What a folder of a model or of a run may call it, the first that is there.
_NAMES = ("tokenizer.json", "tokenizer.model", "spiece.model", "sentencepiece.model")


def tokenizer_of(name: str, content: bytes, pad_id: int | None = None) -> Tokenizer:
    """As `load_tokenizer`, of a file's name and content, such as `Tokenizer.file`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        return load_tokenizer(str(path), pad_id)


@functools.cache
def load_tokenizer(name: str, pad_id: int | None = None) -> Tokenizer:
    """`"bytes"`, or the tokenizer of a `.json` or SentencePiece `.model` file, or of a folder.

    `pad_id` replaces the padding token that the file names. Raises UserError for others.
    """
    tokenizer = _load(name)
    if pad_id is None:
        return tokenizer
    if not 0 <= pad_id < tokenizer.vocab_size:
        raise UserError(
            f"preprocessing.pad_id={pad_id}: the tokenizer has ids 0 to {tokenizer.vocab_size - 1}"
        )
    tokenizer = copy.copy(tokenizer)
    tokenizer.pad_id = pad_id
    return tokenizer


@functools.cache
def _load(name: str) -> Tokenizer:
    if name == "bytes":
        return ByteTokenizer()
    path = Path(name).expanduser()
    if path.is_dir():
        path = next((path / n for n in _NAMES if (path / n).is_file()), path / _NAMES[0])
    if not path.is_file():
        raise UserError(
            f"preprocessing.tokenizer: {name!r} is neither 'bytes' nor an existing file"
        )
    if path.suffix == ".model":
        return SentencePieceTokenizer(str(path))
    return FileTokenizer(str(path))
