"""The retrieval evaluator."""

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
    captions = [e["texts"][:1] if evaluator.captions == "first" else e["texts"] for e in examples]
    texts = [text for own in captions for text in own]
    owner = np.repeat(np.arange(len(examples)), [len(own) for own in captions])
    groups = [e[by] for e in examples] if by else []
    if by and all(value is None for value in groups):
        raise UserError(f"evaluators: by={by!r} is not a field of {data.source}")
    embedded = embedder.texts(texts)
    if evaluator.languages == "apart":
        tags = [e.get("languages") or [None] * len(e["texts"]) for e in examples]
        languages = [tag for tags_of in tags for tag in tags_of]
        if any(tag is None for tag in languages):
            raise UserError(
                f"evaluators: languages='apart', but {data.source} has texts without a language; "
                "a text field that is a table from language to captions names them"
            )
        values = language_recalls(images, embedded, owner, languages)
    else:
        values = retrieval_recalls(images, embedded, owner, by={by: groups} if by else None)
    details: Details = {}
    if jax.process_index() == 0:
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
