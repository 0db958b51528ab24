"""What a page shows of an evaluation: a few queries with their results, as plain JSON data."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from multimodal import config
from multimodal.data import images, transforms
from multimodal.data.record import Source, look_up
from multimodal.data.sources import open_data
from multimodal.evaluation.ranking import top
from multimodal.preprocessing import Preprocessing

Details = dict[str, Any]
LARGEST = 96  # pixels of a thumbnail's side


def retrieval_details(
    image_embeddings: np.ndarray,  # [images, embed]
    text_embeddings: np.ndarray,  # [texts, embed]
    texts: Sequence[str],
    owner: np.ndarray,  # [texts]
    positions: Sequence[int],  # [images], in the source
    data: config.Data,
    preprocessing: Preprocessing,
    data_dir: str,
    queries: int = 8,
    results: int = 5,
) -> Details:
    """Queries spread evenly over the data, both ways, each with its best `results`.

    `text_to_image`: [{text, results: [{image, score, right}]}]; `image_to_text`: [{image, results:
    [{text, score, right}]}]; `images`: {number: base64 of a PNG} of all the images named.
    """
    asked = np.unique(np.linspace(0, len(texts) - 1, queries).astype(int))
    found, scores = top(text_embeddings[asked], image_embeddings, results)
    to_image = [
        {
            "text": texts[t],
            "results": [
                {"image": str(i), "score": float(s), "right": bool(i == owner[t])}
                for i, s in zip(row, row_scores, strict=True)
            ],
        }
        for t, row, row_scores in zip(asked, found, scores, strict=True)
    ]
    pictures = np.unique(np.linspace(0, len(image_embeddings) - 1, queries).astype(int))
    read, scores = top(image_embeddings[pictures], text_embeddings, results)
    to_text = [
        {
            "image": str(i),
            "results": [
                {"text": texts[t], "score": float(s), "right": bool(owner[t] == i)}
                for t, s in zip(row, row_scores, strict=True)
            ],
        }
        for i, row, row_scores in zip(pictures, read, scores, strict=True)
    ]
    source = open_data(data, data_dir)
    shown = sorted({*found.ravel().tolist(), *pictures.tolist()})
    thumbnails = {str(i): _thumbnail(source, positions[i], data, preprocessing) for i in shown}
    return {
        "kind": "retrieval",
        "text_to_image": to_image,
        "image_to_text": to_text,
        "images": thumbnails,
    }


def class_details(kind: str, classes: Sequence[str], confusion: np.ndarray) -> Details:
    """`kind` (zero_shot or classification), `classes`, and `confusion` [true][predicted] as lists
    of counts."""
    counts = [[round(float(c), 3) for c in row] for row in confusion]
    return {"kind": kind, "classes": list(classes), "confusion": counts}


def _thumbnail(
    source: Source, position: int, data: config.Data, preprocessing: Preprocessing
) -> str:
    """The picture as the model sees it, at most LARGEST pixels wide."""
    value = look_up(source[position], data.fields["image"])
    pixels = value if isinstance(value, np.ndarray) else images.decode(value)
    picture = Image.fromarray(transforms.fit(pixels, preprocessing))
    picture.thumbnail((LARGEST, LARGEST))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()
