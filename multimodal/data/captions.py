"""The texts of a record: one, several, or several by language, of which training draws one."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

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


def draw(
    spoken: Captions,
    languages: Mapping[str, float],
    templates: Sequence[str],
    rng: np.random.Generator,
) -> str:
    """A language by its weight, one of its captions, and one of the templates to put it into."""
    names = list(spoken)
    if len(names) > 1:
        weights = np.array([languages.get(name, 1.0) for name in names])
        name = names[rng.choice(len(names), p=weights / weights.sum())]
    else:
        name = names[0]
    text = spoken[name][rng.integers(len(spoken[name]))]
    if templates:
        text = templates[rng.integers(len(templates))].replace("{}", text)
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
