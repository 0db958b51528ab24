"""Captions: each one names every attribute of every object, in varied wording and order."""

import itertools

import numpy as np

from multimodal.data.scenes.world import COLOURS, PLACES, SHAPES, SIZES, Object, Scene

# Other words for a size, used now and then.
SIZE_WORDS = {"small": ("small", "tiny"), "mid": ("mid", "medium"), "big": ("big", "large")}
MAX_BYTES = 62  # captions of one or two objects stay below this where the words allow it

_ALONE = (
    "a {size} {colour} {shape} {place}",
    "{size} {colour} {shape} at the {place}",
    "{a_colour} {shape}, {size}, {place}",
    "{place}: a {size} {colour} {shape}",
    "at the {place} a {size} {colour} {shape}",
    "{size} {colour} {shape}, {place}",
    "there is a {size} {colour} {shape} {place}",
)
# (one object, between the objects): from long to short.
_TOGETHER = (
    ("a {size} {colour} {shape} {place}", " and "),
    ("{place}: {size} {colour} {shape}", ", "),
    ("{size} {colour} {shape} {place}", " and "),
    ("{place} {size} {colour} {shape}", ", "),
    ("{size} {colour} {shape} {place}", ", "),
)
_ORDERS = {count: tuple(itertools.permutations(range(count))) for count in (1, 2, 3, 4)}


def article(word: str) -> str:
    """The word behind its indefinite article: 'an orange', 'a red'."""
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def _say(template: str, thing: Object, size: str) -> str:
    colour = COLOURS[thing.colour]
    return template.format(
        size=size,
        colour=colour,
        a_colour=article(colour),
        shape=SHAPES[thing.shape],
        place=PLACES[thing.place],
    )


def _size_word(thing: Object, rng: np.random.Generator) -> str:
    usual, other = SIZE_WORDS[SIZES[thing.size]]
    return other if rng.random() < 0.2 else usual


def captions(scene: Scene, count: int, rng: np.random.Generator) -> list[str]:
    """`count` captions (at most 7) of one scene, different from each other.

    Two objects are told with the wordings that fit into `MAX_BYTES`, or the shortest ones; three
    and four need more.
    """
    if len(scene) == 1:
        words = [_say(t, scene[0], _size_word(scene[0], rng)) for t in _ALONE]
        return [words[i] for i in rng.permutation(len(words))[:count]]
    choices = [(form, order) for form in _TOGETHER for order in _ORDERS[len(scene)][:8]]
    # Two objects: all wordings, to choose the short ones.
    tried = rng.permutation(len(choices))[: None if len(scene) == 2 else count].tolist()
    told = []
    for index in tried:
        (template, between), order = choices[index]
        told.append(
            between.join(_say(template, scene[i], _size_word(scene[i], rng)) for i in order)
        )
    if len(scene) == 2:
        told.sort(key=lambda text: max(len(text), MAX_BYTES))  # stable: those that fit come first
    return told[:count]


def caption_without(scene: Scene, attribute: str) -> str:
    """The canonical caption with one attribute ('shape', 'colour', 'size', 'place') left out:
    all that a retriever which ignores this attribute can know of the scene."""
    fields = [name for name in ("size", "colour", "shape", "place") if name != attribute]
    names = {"shape": SHAPES, "colour": COLOURS, "size": SIZES, "place": PLACES}
    parts = [" ".join(names[name][getattr(thing, name)] for name in fields) for thing in scene]
    return " and ".join(sorted(parts))
