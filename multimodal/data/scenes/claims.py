"""Sentences that are true or false of a scene (as in NLVR), from small logical forms.

Statements come in pairs of one kind, one true and one false, so that neither the wording nor the
split tells the label. Colour-shape pairs are named only out of those that the split may show:
otherwise a never-seen pair would give "false" away.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from multimodal.data.scenes.language import article
from multimodal.data.scenes.world import (
    COLOURS,
    NUM_VALUES,
    PLACES,
    SHAPES,
    SIZES,
    Object,
    Scene,
    column,
    is_held_out,
    row,
)

NUMBERS = ("no", "one", "two", "three", "four")
RELATIONS: dict[str, Callable[[Object, Object], bool]] = {
    "left of": lambda a, b: column(a.place) < column(b.place),
    "right of": lambda a, b: column(a.place) > column(b.place),
    "above": lambda a, b: row(a.place) < row(b.place),
    "below": lambda a, b: row(a.place) > row(b.place),
}
OPPOSITES = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


class Filter(NamedTuple):
    """Some attributes of an object; None stands for any value."""

    shape: int | None = None
    colour: int | None = None
    size: int | None = None
    place: int | None = None

    def matches(self, thing: Object) -> bool:
        return all(want is None or want == has for want, has in zip(self, thing, strict=True))

    def count(self, scene: Scene) -> int:
        return sum(self.matches(thing) for thing in scene)

    def noun(self, plural: bool = False) -> str:
        """'big red star', 'red object', 'stars'; without the place."""
        words = []
        if self.size is not None:
            words.append(SIZES[self.size])
        if self.colour is not None:
            words.append(COLOURS[self.colour])
        word = "object" if self.shape is None else SHAPES[self.shape]
        if plural:
            word += "es" if word.endswith("s") else "s"
        return " ".join([*words, word])

    def where(self) -> str:
        return "" if self.place is None else f" at the {PLACES[self.place]}"


def pick(rng: np.random.Generator, choices):
    """One of `choices`, each as likely."""
    return choices[int(rng.random() * len(choices))]


def about(thing: Object, fields: tuple[str, ...]) -> Filter:
    """What is said of `thing` when only `fields` are named."""
    return Filter(**{name: getattr(thing, name) for name in fields})


def altered(what: Filter, held_out: bool, rng: np.random.Generator) -> Filter:
    """`what` with one named attribute changed, naming only pairs that the split may show."""
    while True:
        name = pick(rng, [name for name in Filter._fields if getattr(what, name) is not None])
        value = int(rng.integers(NUM_VALUES[name]))
        other = what._replace(**{name: value})
        both = other.shape is not None and other.colour is not None
        if other != what and not (both and is_held_out(other.shape, other.colour) != held_out):
            return other


_EXISTS = (("shape", "colour"), ("size", "shape"), ("colour", "place"), ("shape", "place"))
_COUNTED = ((), ("colour",), ("shape",))

Pair = tuple[str, str]  # the true and the false statement


def absent(what: Filter, scene: Scene, held_out: bool, rng: np.random.Generator) -> Filter | None:
    """`what` with one attribute changed so that nothing in the scene matches it; None where a few
    tries find nothing (four objects can take all held-out pairs of a block)."""
    for _ in range(8):
        other = altered(what, held_out, rng)
        if not other.count(scene):
            return other
    return None


def _exists(scene: Scene, held_out: bool, rng: np.random.Generator) -> Pair | None:
    there = about(pick(rng, scene), pick(rng, _EXISTS))
    nowhere = absent(there, scene, held_out, rng)
    if nowhere is None:
        return None
    if rng.random() < 0.5:
        return tuple(f"there is {article(w.noun())}{w.where()}" for w in (there, nowhere))
    return tuple(f"there is no {w.noun()}{w.where()}" for w in (nowhere, there))


def _count(scene: Scene, held_out: bool, rng: np.random.Generator) -> Pair:
    what = about(pick(rng, scene), pick(rng, _COUNTED))
    right = what.count(scene)
    wrong = pick(rng, [number for number in (1, 2, 3, 4) if number != right])

    def say(number: int) -> str:
        verb = "is" if number == 1 else "are"
        return f"there {verb} exactly {NUMBERS[number]} {what.noun(plural=number != 1)}"

    return say(right), say(wrong)


def _is(scene: Scene, held_out: bool, rng: np.random.Generator) -> Pair | None:
    """'the star is red', 'the red object is big', of something that is unique."""
    thing = pick(rng, scene)
    subject, said = pick(
        rng, (("shape", "colour"), ("shape", "size"), ("colour", "size"), ("colour", "place"))
    )
    if about(thing, (subject,)).count(scene) != 1:
        return None
    names = {"colour": COLOURS, "size": SIZES, "place": [f"at the {name}" for name in PLACES]}

    def say(value: int) -> str:
        return f"the {about(thing, (subject,)).noun()} is {names[said][value]}"

    while True:
        value = int(rng.integers(NUM_VALUES[said]))
        hidden = (subject, said) == ("shape", "colour")
        if value != getattr(thing, said) and not (
            hidden and is_held_out(thing.shape, value) != held_out
        ):
            return say(getattr(thing, said)), say(value)


def related(scene: Scene, rng: np.random.Generator) -> tuple[Filter, str, Filter] | None:
    """A true relation between two things that shape and colour tell apart, or None."""
    if len(scene) < 2:
        return None
    first, second = (scene[i] for i in rng.permutation(len(scene))[:2])
    one, two = about(first, ("shape", "colour")), about(second, ("shape", "colour"))
    true = [name for name, holds in RELATIONS.items() if holds(first, second)]
    if one.count(scene) != 1 or two.count(scene) != 1:
        return None
    return one, pick(rng, true), two  # places differ, so at least one relation holds


def _relation(scene: Scene, held_out: bool, rng: np.random.Generator) -> Pair | None:
    found = related(scene, rng)
    if found is None:
        return None
    one, name, two = found
    return tuple(f"the {one.noun()} is {word} the {two.noun()}" for word in (name, OPPOSITES[name]))


def _all(scene: Scene, held_out: bool, rng: np.random.Generator) -> Pair | None:
    """'all objects are red' against 'all objects are blue', where they agree."""
    if len(scene) < 2 or len({thing.colour for thing in scene}) > 1:
        return None
    right = scene[0].colour
    wrong = pick(rng, [value for value in range(len(COLOURS)) if value != right])
    return f"all objects are {COLOURS[right]}", f"all objects are {COLOURS[wrong]}"


_KINDS = (_exists, _exists, _count, _is, _relation, _relation, _all)


def statements(scene: Scene, pairs: int, rng: np.random.Generator) -> tuple[list[str], list[bool]]:
    """2 * `pairs` different statements in random order, half of them true, with their truth."""
    held_out = is_held_out(scene[0].shape, scene[0].colour)
    told: dict[str, bool] = {}
    while len(told) < 2 * pairs:
        pair = pick(rng, _KINDS)(scene, held_out, rng)
        if pair is not None and not told.keys() & set(pair):
            told.update(zip(pair, (True, False), strict=True))
    items = list(told.items())
    items = [items[i] for i in rng.permutation(len(items))]
    return [text for text, _ in items], [truth for _, truth in items]
