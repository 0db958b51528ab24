"""Retrieval figures from unit vectors: R@k both ways, by a value of the image, by language."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from multimodal.evaluation.bootstrap import interval
from multimodal.evaluation.ranking import hits

KS = (1, 5, 10)


class Hits(NamedTuple):
    """Shares of hits within the first k of each query, [queries, ks], the same by chance, and the
    image that each query belongs to, [queries]."""

    found: np.ndarray
    chance: np.ndarray
    image: np.ndarray


def retrieval_hits(
    images: np.ndarray,  # [images, embed]
    texts: np.ndarray,  # [texts, embed]
    owner: np.ndarray,  # [texts], index of the image that each text belongs to
    ks: Sequence[int] = KS,
) -> dict[str, Hits]:
    """Of `image_to_text` and `text_to_image`. An image counts as a hit if any of its texts is among
    the first k, a text if its image is. Raises ValueError where an image has no text."""
    numbers = np.arange(len(images))
    if len(np.setdiff1d(numbers, owner)):
        raise ValueError("every image needs a text")
    return {
        "image_to_text": Hits(*hits(images, numbers, texts, owner, ks), numbers),
        "text_to_image": Hits(*hits(texts, owner, images, numbers, ks), owner),
    }


def retrieval_recalls(
    images: np.ndarray,  # [images, embed]
    texts: np.ndarray,  # [texts, embed]
    owner: np.ndarray,  # [texts]
    ks: Sequence[int] = KS,
    by: Mapping[str, Sequence[Any]] | None = None,
) -> dict[str, float]:
    """`image_to_text_R@k` and `text_to_image_R@k`, as shares of 1, each with its `chance/...` level
    and the `.../low` and `.../high` of its 95 % interval, images resampled.

    `by` gives a name and one value an image: R@1 is also returned over the queries of each value,
    such as `text_to_image_R@1/num_objects=2`, still among all candidates.
    Raises ValueError where an image has no text.
    """
    values: dict[str, float] = {}
    for name, direction in retrieval_hits(images, texts, owner, ks).items():
        values |= _figures(name, direction, ks)
        for key, groups in (by or {}).items() if 1 in ks else ():
            of_query = np.array([str(g) for g in groups])[direction.image]
            for group in in_order(groups):
                rows = of_query == str(group)
                own = Hits(*(x[rows] for x in direction))
                column = list(ks).index(1)
                own = own._replace(found=own.found[:, [column]], chance=own.chance[:, [column]])
                values |= _figures(name, own, (1,), f"/{key}={group}")
    return values


def language_recalls(
    images: np.ndarray,  # [images, embed]
    texts: np.ndarray,  # [texts, embed]
    owner: np.ndarray,  # [texts]
    languages: Sequence[str],  # [texts]
    ks: Sequence[int] = KS,
) -> dict[str, float]:
    """Retrieval within each language alone, among the images that have a text in it, as
    `text_to_image_R@1/language=de`; and the mean over all languages but the first, which is the one
    that most images name first, as `.../language=others`. The first also stands without suffix.
    """
    tags = np.array([str(language) for language in languages])
    first_texts = np.unique(owner, return_index=True)[1]
    names, votes = np.unique(tags[first_texts], return_counts=True)
    first = names[votes.argmax()]
    order = [first, *sorted(set(tags.tolist()) - {first})]
    values: dict[str, float] = {}
    each: dict[str, float] = {}
    others: dict[str, list[Hits]] = {"image_to_text": [], "text_to_image": []}
    for language in order:
        rows = np.flatnonzero(tags == language)
        kept, own = np.unique(owner[rows], return_inverse=True)
        found = retrieval_hits(images[kept], texts[rows], own, ks)
        for name, direction in found.items():
            if language == first:
                values |= _figures(name, direction, ks)
            else:
                others[name].append(direction._replace(image=kept[direction.image]))
            each |= _figures(name, direction, ks, f"/language={language}")
    for name, parts in others.items() if len(order) > 1 else ():
        values |= _mean_figures(name, parts, len(images), ks, "/language=others")
    return values | each


def in_order(groups: Sequence[Any]) -> list[Any]:
    """The different values: numbers by size, then the rest by name."""

    def rank(value: Any) -> tuple[bool, float, str]:
        number = isinstance(value, (int, float))
        return not number, value if number else 0.0, str(value)

    return sorted({str(g): g for g in groups}.values(), key=rank)


def _figures(name: str, direction: Hits, ks: Sequence[int], suffix: str = "") -> dict[str, float]:
    images, owner = np.unique(direction.image, return_inverse=True)
    return _mean_figures(name, [direction._replace(image=owner)], len(images), ks, suffix)


def _mean_figures(
    name: str, parts: Sequence[Hits], images: int, ks: Sequence[int], suffix: str
) -> dict[str, float]:
    """The mean of the figures of `parts`, whose images are the same ones and resampled together."""
    counts = np.stack([np.bincount(p.image, minlength=images) for p in parts], 1)
    values = {}
    for column, k in enumerate(ks):
        label = f"{name}_R@{k}{suffix}"
        values[label] = float(np.mean([p.found[:, column].mean() for p in parts]))
        values[f"chance/{label}"] = float(np.mean([p.chance[:, column].mean() for p in parts]))
        found = [np.bincount(p.image, p.found[:, column], images) for p in parts]
        low, high = interval(np.stack(found, 1), counts)
        values |= {f"{label}/low": low, f"{label}/high": high}
    return values
