"""Texts to token ids as a model's preprocessing has them."""

import string
from collections.abc import Sequence

import numpy as np

from multimodal.data.tokenizers.tokenizer import Tokenizer
from multimodal.preprocessing import Preprocessing

_PUNCTUATION = str.maketrans("", "", string.punctuation)


def tokenize(
    texts: Sequence[str], preprocessing: Preprocessing, tokenizer: Tokenizer
) -> np.ndarray:
    """Token ids, int32 [texts, length], as the model that owns `preprocessing` expects them."""
    p = preprocessing
    return tokenizer.encode_batch(cleaned(texts, p), p.length, p.add_start, p.add_end)


def cleaned(texts: Sequence[str], preprocessing: Preprocessing) -> Sequence[str]:
    """Texts as a tokenizer is given them: lower case, punctuation and spaces as they are set."""
    if preprocessing.lowercase:
        texts = [text.lower() for text in texts]
    if preprocessing.canonicalize:
        texts = [" ".join(text.translate(_PUNCTUATION).split()) for text in texts]
    return texts
