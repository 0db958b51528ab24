"""The retrieval evaluator."""

from typing import Any

import jax
import numpy as np

from multimodal import config
from multimodal.errors import UserError
from multimodal.evaluation.details import Details, retrieval_details
from multimodal.evaluation.embed import Embedder
from multimodal.evaluation.recalls import language_recalls, retrieval_recalls


def retrieval(
    evaluator: config.Retrieval, embedder: Embedder, data_dir: str
) -> tuple[dict[str, float], Details]:
    data, by = evaluator.data, evaluator.by
    images, examples, broken = embedder.images(data, (by,) if by else (), data_dir)
    apart = evaluator.languages == "apart"
    captions = [_captions(e, evaluator.captions, apart) for e in examples]
    texts = [text for own in captions for _, text in own]
    owner = np.repeat(np.arange(len(examples)), [len(own) for own in captions])
    groups = [e[by] for e in examples] if by else []
    if by and all(value is None for value in groups):
        raise UserError(f"evaluators: by={by!r} is not a field of {data.source}")
    embedded = embedder.texts(texts)
    if apart:
        languages = [language for own in captions for language, _ in own]
        if not all(languages):
            raise UserError(
                f"evaluators: languages='apart', but {data.source} has texts without a language; "
                "a text field that is a table from language to captions names them"
            )
        values = language_recalls(images, embedded, owner, languages)
    else:
        values = retrieval_recalls(images, embedded, owner, by={by: groups} if by else None)
    details: Details = {}
    if jax.process_index() == 0 and "image" in data.fields:  # features cannot be shown
        details = retrieval_details(
            images,
            embedded,
            texts,
            owner,
            [e["position"] for e in examples],
            data,
            embedder.preprocessing,
            data_dir,
        )
    counts = {"examples": float(len(examples)), "captions": float(len(texts))}
    return values | counts | {"broken": float(broken)}, details


def _captions(example: dict[str, Any], which: str, apart: bool) -> list[tuple[str, str]]:
    """(language, text) of all captions or the first one; apart, of the first in each language."""
    texts = example["texts"]
    own = list(zip(example.get("languages") or [""] * len(texts), texts, strict=True))
    if which == "all":
        return own
    firsts: dict[str, tuple[str, str]] = {}
    for language, text in own if apart else own[:1]:
        firsts.setdefault(language, (language, text))
    return list(firsts.values())
