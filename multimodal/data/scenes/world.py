"""What a scene is: objects with a shape, a colour, a size and a place, and their neighbours.

Everything here is discrete and exact; pixels are in `render`, words in `language`. All attributes
are small integers that index the tuples `SHAPES`, `COLOURS`, `SIZES` and `PLACES`.
"""

import hashlib
import itertools
from collections.abc import Iterator
from typing import NamedTuple

SHAPES = ("circle", "square", "triangle", "star", "cross", "diamond", "ring", "heart")
COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "pink", "black")
SIZES = ("small", "mid", "big")
PLACES = (
    "top left",
    "top",
    "top right",
    "left",
    "centre",
    "right",
    "bottom left",
    "bottom",
    "bottom right",
)
ATTRIBUTES = ("shape", "colour", "size", "place")
NUM_VALUES = {"shape": 8, "colour": 8, "size": 3, "place": 9}


class Object(NamedTuple):
    """One drawn object; the fields index SHAPES, COLOURS, SIZES and PLACES."""

    shape: int
    colour: int
    size: int
    place: int


Scene = tuple[Object, ...]  # one to four objects; their order carries no meaning


def is_held_out(shape: int, colour: int) -> bool:
    """Whether the pair is kept for the test splits: 16 of 64, two shapes a colour and two colours
    a shape. Shape and colour agree modulo 4, so the held-out pairs form four complete 2 x 2 blocks
    and neither attribute follows from the other inside a block."""
    return shape % 4 == colour % 4


PAIRS = tuple(itertools.product(range(len(SHAPES)), range(len(COLOURS))))
TEST_PAIRS = tuple(pair for pair in PAIRS if is_held_out(*pair))
TRAIN_PAIRS = tuple(pair for pair in PAIRS if not is_held_out(*pair))


def column(place: int) -> int:
    """-1 left, 0 middle, 1 right."""
    return place % 3 - 1


def row(place: int) -> int:
    """-1 top, 0 middle, 1 bottom."""
    return place // 3 - 1


def _opposite(a: int, b: int) -> bool:
    """On opposite sides of the picture, so that even two big objects do not overlap."""
    return abs(column(a) - column(b)) == 2 or abs(row(a) - row(b)) == 2


# Places that 1 to 4 objects may take together, whatever their sizes.
LAYOUTS = {
    count: tuple(
        places
        for places in itertools.permutations(range(len(PLACES)), count)
        if all(_opposite(a, b) for a, b in itertools.combinations(places, 2))
    )
    for count in (1, 2, 3, 4)
}
_LAYOUT_SETS = {count: frozenset(layouts) for count, layouts in LAYOUTS.items()}


def is_valid(scene: Scene) -> bool:
    """Whether the objects' places can be drawn together without overlap."""
    return tuple(thing.place for thing in scene) in _LAYOUT_SETS[len(scene)]


def describe(scene: Scene) -> tuple[Object, ...]:
    """The scene in canonical order: equal for two scenes exactly if they show the same."""
    return tuple(sorted(scene))


def is_reserved(scene: Scene) -> bool:
    """Whether this description belongs to validation (about one in eight) and not to training.

    It depends on the description alone, so that the two splits are disjoint at any size and seed.
    """
    flat = bytes(value for thing in sorted(scene) for value in thing)
    return hashlib.blake2b(flat, digest_size=1).digest()[0] % 8 == 0


def changes(scene: Scene, attribute: str) -> Iterator[Scene]:
    """Every valid scene that differs from `scene` in `attribute` of exactly one object."""
    for index, thing in enumerate(scene):
        for value in range(NUM_VALUES[attribute]):
            if value != getattr(thing, attribute):
                changed = thing._replace(**{attribute: value})
                other = scene[:index] + (changed,) + scene[index + 1 :]
                if attribute != "place" or is_valid(other):
                    yield other
