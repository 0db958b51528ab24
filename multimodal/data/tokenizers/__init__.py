"""Texts to token ids: UTF-8 bytes, any `tokenizer.json`, or a SentencePiece `.model`."""

from multimodal.data.tokenizers.dropout import BpeDropout
from multimodal.data.tokenizers.encode import cleaned, tokenize
from multimodal.data.tokenizers.file import FileTokenizer
from multimodal.data.tokenizers.load import load_tokenizer, tokenizer_of
from multimodal.data.tokenizers.spm import SentencePieceTokenizer
from multimodal.data.tokenizers.tokenizer import Tokenizer, describe_tokenizer
from multimodal.data.tokenizers.utf8 import ByteTokenizer

__all__ = [
    "BpeDropout",
    "ByteTokenizer",
    "FileTokenizer",
    "SentencePieceTokenizer",
    "Tokenizer",
    "cleaned",
    "describe_tokenizer",
    "load_tokenizer",
    "tokenize",
    "tokenizer_of",
]
