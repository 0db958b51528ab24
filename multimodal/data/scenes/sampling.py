"""Which scenes each split shows, as pure functions of (seed, split, index).

train, validation  consecutive groups of near neighbours: a scene, then variations of it that
                   differ in exactly one attribute of one object. Colour-shape pairs outside the
                   held-out ones; a description is in one of the two splits only.
test               retrieval: one- and two-object scenes, all different, held-out pairs only,
                   arranged so that no attribute can be ignored (see `retrieval_scenes`).
test_many          scenes of three and four objects, all different, held-out pairs only.
test_single        one object each, all held-out pairs equally often: zero-shot classification.
"""

import itertools

import numpy as np

from multimodal.data.scenes.world import (
    ATTRIBUTES,
    LAYOUTS,
    PLACES,
    SIZES,
    TEST_PAIRS,
    TRAIN_PAIRS,
    Object,
    Scene,
    changes,
    describe,
    is_held_out,
    is_reserved,
)
from multimodal.errors import UserError

SPLITS = ("train", "validation", "test", "test_many", "test_single")
_COUNT_EDGES = (0.60, 0.85, 0.95)  # share of scenes with at most 1, 2, 3 objects


def generator(seed: int, split: str, index: int, stream: int = 0) -> np.random.Generator:
    """The random numbers of one record (or group); independent of every other one's."""
    return np.random.default_rng((seed, SPLITS.index(split), index, stream))


def _pick(rng: np.random.Generator, choices):
    return choices[int(rng.random() * len(choices))]


def _draw(rng: np.random.Generator, count: int, pairs: tuple) -> Scene:
    return tuple(
        Object(*_pick(rng, pairs), int(rng.random() * len(SIZES)), place)
        for place in _pick(rng, LAYOUTS[count])
    )


def _allowed(scene: Scene, validation: bool) -> bool:
    seen = not any(is_held_out(thing.shape, thing.colour) for thing in scene)
    return seen and is_reserved(scene) == validation


def group(seed: int, split: str, index: int, group_size: int) -> list[Scene]:
    """Group `index` of train or validation: a scene and group_size - 1 near neighbours of it,
    all different. Every other one differs in shape, which is the hardest to see and would be
    learnt last; the others take the remaining attributes in turn from a random start."""
    rng = generator(seed, split, index, stream=1)
    validation = split == "validation"
    while True:
        value = rng.random()
        base = _draw(rng, 1 + sum(value >= edge for edge in _COUNT_EDGES), TRAIN_PAIRS)
        if not _allowed(base, validation):
            continue
        pools = {}
        for attribute in (ATTRIBUTES[i] for i in rng.permutation(len(ATTRIBUTES))):
            pool = [scene for scene in changes(base, attribute) if _allowed(scene, validation)]
            pools[attribute] = [pool[i] for i in rng.permutation(len(pool))]
        shapes = pools.pop("shape")
        others = itertools.chain.from_iterable(itertools.zip_longest(*pools.values()))
        turns = itertools.chain.from_iterable(
            itertools.zip_longest(shapes, (scene for scene in others if scene is not None))
        )
        neighbours = [scene for scene in turns if scene is not None][: group_size - 1]
        if len(neighbours) == group_size - 1:
            return [base, *neighbours]


def retrieval_scenes(seed: int, size: int) -> list[Scene]:
    """The retrieval set: `size` different scenes (a multiple of 128, at most 768), half of them of
    one object and half of two, with held-out pairs only.

    The held-out pairs form four complete 2 x 2 blocks of colours and shapes. The one-object half
    takes, in every block, all four pairs at the same sizes and places. The two-object half
    consists of families of 64: two objects, all pairs of their blocks (16), two sizes and two
    places of the first. So whichever attribute is left out, other scenes read the same.
    """
    if size % 128 or not 0 < size <= 768:
        raise UserError(f"scenes: test={size} must be one of 128, 256, 384, 512, 640, 768")
    rng = generator(seed, "test", 0, stream=1)
    blocks = [[pair for pair in TEST_PAIRS if pair[0] % 4 == block] for block in range(4)]
    scenes: list[Scene] = []
    places = rng.permutation(len(PLACES)).tolist()
    for number, block in enumerate(blocks):
        turned = places[2 * number :] + places[: 2 * number]  # every place is used by some block
        cells = list(itertools.product(turned, range(len(SIZES))))[: size // 32]
        scenes += [(Object(*pair, width, place),) for place, width in cells for pair in block]
    seen = {describe(scene) for scene in scenes}
    number = 0
    while len(scenes) < size:
        shift = 1 + number // 4 % 3  # A and B come from different blocks, each in both roles
        family = list(_family(rng, blocks[number % 4], blocks[(number + shift) % 4]))
        if seen.isdisjoint(map(describe, family)):
            seen.update(map(describe, family))
            scenes += family
            number += 1
    return [scenes[i] for i in rng.permutation(size)]


def _family(rng: np.random.Generator, first: list, second: list):
    anchor = _pick(rng, LAYOUTS[2])[0]
    partners = [a for a, b in LAYOUTS[2] if b == anchor]
    places = [partners[i] for i in rng.permutation(len(partners))[:2]]
    sizes = rng.permutation(len(SIZES))[:2].tolist()
    other_size = int(rng.integers(len(SIZES)))
    for a, b, size, place in itertools.product(first, second, sizes, places):
        yield (Object(*a, size, place), Object(*b, other_size, anchor))


def many_scenes(seed: int, size: int) -> list[Scene]:
    """`size` different scenes of three and four objects in turn, held-out pairs only."""
    rng = generator(seed, "test_many", 0, stream=1)
    scenes: dict[Scene, Scene] = {}
    while len(scenes) < size:
        scene = _draw(rng, 3 + len(scenes) % 2, TEST_PAIRS)
        scenes.setdefault(describe(scene), scene)
    return list(scenes.values())


def single_scenes(seed: int, size: int) -> list[Scene]:
    """`size` one-object scenes that go through the held-out pairs in turn, with every size and
    place before any comes again (there are 432 descriptions; the pictures differ anyway)."""
    rng = generator(seed, "test_single", 0, stream=1)
    cells = list(itertools.product(range(len(SIZES)), range(len(PLACES))))
    mixed = {pair: [cells[i] for i in rng.permutation(len(cells))] for pair in TEST_PAIRS}
    scenes = []
    for index in range(size):
        pair = TEST_PAIRS[index % len(TEST_PAIRS)]
        scenes.append((Object(*pair, *mixed[pair][index // len(TEST_PAIRS) % len(cells)]),))
    return scenes
