"""The texts of a record: one, several, or several by language, of which training draws one."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from multimodal.config import Tags

Captions = dict[str, list[str]]  # by language; "" where the record names none


def captions(value: Any, languages: Mapping[str, float]) -> Captions:
    """What says something of a text, a list of texts, or either by language, in the record's order.

    Raises ValueError where nothing is left, and for other values.
    """
    if not isinstance(value, dict):
        return {"": _texts(value)}
    wanted = [name for name, weight in languages.items() if weight > 0]
    spoken = {}
    for name, given in value.items():  # settings come back from a file in the order of the alphabet
        if name in (wanted or value) and given is not None and (own := _texts(given, empty=True)):
            spoken[name] = own
    if not spoken:
        raise ValueError(f"no caption in {', '.join(wanted) or 'any language'}")
    return spoken


def tags(value: Any) -> Captions:
    """A record's tags, in all their languages; none where it has none. Raises ValueError."""
    if value is None:
        return {}
    by_language = value if isinstance(value, dict) else {"": value}
    return {n: _texts(own, empty=True) for n, own in by_language.items() if own is not None}


def draw(
    spoken: Captions,
    languages: Mapping[str, float],
    templates: Sequence[str],
    rng: np.random.Generator,
    tags: Captions | None = None,
    mixing: Tags | None = None,
) -> str:
    """A language by its weight, one of its captions, and one of the templates to put it into; with
    some of the `tags` of that language, or of none in particular, where `mixing` says so."""
    names = list(spoken)
    if len(names) > 1:
        weights = np.array([languages.get(name, 1.0) for name in names])
        name = names[rng.choice(len(names), p=weights / weights.sum())]
    else:
        name = names[0]
    text = spoken[name][rng.integers(len(spoken[name]))]
    if templates:
        text = templates[rng.integers(len(templates))].replace("{}", text)
    own = (tags or {}).get(name) or (tags or {}).get("")
    if own and rng.random() < mixing.share:
        count = rng.integers(1, min(mixing.most, len(own)) + 1)
        some = ", ".join(own[i] for i in rng.permutation(len(own))[:count])
        text = f"{text}: {some}" if rng.random() < 0.5 else some
    return text


def listed(spoken: Captions, templates: Sequence[str]) -> tuple[list[str], list[str]]:
    """All captions, each in the first template, and the language of each."""
    texts = [text for own in spoken.values() for text in own]
    if templates:
        texts = [templates[0].replace("{}", text) for text in texts]
    return texts, [name for name, own in spoken.items() for _ in own]


def _texts(value: Any, empty: bool = False) -> list[str]:
    texts = [value] if isinstance(value, (str, bytes)) else value
    if not isinstance(texts, (list, tuple)) or not all(isinstance(t, (str, bytes)) for t in texts):
        raise ValueError(f"text is neither a string nor a list of strings: {value!r}"[:200])
    try:
        texts = [t.decode() if isinstance(t, bytes) else t for t in texts]
    except UnicodeDecodeError as error:
        raise ValueError(f"text is not UTF-8: {error}") from None
    texts = [t for t in texts if t.strip()]
    if not texts and not empty:
        raise ValueError("empty caption")
    return texts
