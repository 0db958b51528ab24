"""Questions about a scene, with answers out of the closed list `ANSWERS`."""

import numpy as np

from multimodal.data.scenes.claims import OPPOSITES, Filter, about, absent, pick, related
from multimodal.data.scenes.language import article
from multimodal.data.scenes.world import COLOURS, PLACES, SHAPES, SIZES, Scene, is_held_out

ANSWERS = ("no", "yes", "1", "2", "3", "4", *COLOURS, *SHAPES, *SIZES, *PLACES)

# What is named of the thing asked about; the question; the attribute that answers it.
_ASK = (
    (("shape",), "what colour is the {}?", "colour"),
    (("colour",), "what shape is the {}?", "shape"),
    (("shape", "colour"), "what size is the {}?", "size"),
    (("shape", "colour"), "where is the {}?", "place"),
)
_NAMES = {"colour": COLOURS, "shape": SHAPES, "size": SIZES, "place": PLACES}

Asked = tuple[str, str]  # question and answer


def _ask(scene: Scene, rng: np.random.Generator) -> Asked | None:
    thing = pick(rng, scene)
    named, question, attribute = pick(rng, _ASK)
    what = about(thing, named)
    if what.count(scene) != 1:
        return None
    return question.format(what.noun()), _NAMES[attribute][getattr(thing, attribute)]


def _how_many(scene: Scene, rng: np.random.Generator) -> Asked:
    what = pick(rng, (Filter(), about(pick(rng, scene), ("colour",))))
    return f"how many {what.noun(plural=True)} are there?", str(what.count(scene))


def _is_there(scene: Scene, rng: np.random.Generator) -> Asked | None:
    what = about(pick(rng, scene), ("shape", "colour"))
    yes = rng.random() < 0.5
    if not yes:
        what = absent(what, scene, is_held_out(scene[0].shape, scene[0].colour), rng)
    return what and (f"is there {article(what.noun())}?", "yes" if yes else "no")


def _is_beside(scene: Scene, rng: np.random.Generator) -> Asked | None:
    found = related(scene, rng)
    if found is None:
        return None
    one, name, two = found
    yes = rng.random() < 0.5
    word = name if yes else OPPOSITES[name]
    return f"is the {one.noun()} {word} the {two.noun()}?", "yes" if yes else "no"


_KINDS = (_ask, _ask, _ask, _how_many, _is_there, _is_beside)


def questions(scene: Scene, count: int, rng: np.random.Generator) -> tuple[list[str], list[str]]:
    """`count` (at most 4) different questions and their answers."""
    asked: dict[str, str] = {}
    while len(asked) < count:
        found = pick(rng, _KINDS)(scene, rng)
        if found is not None:
            asked.setdefault(*found)
    return list(asked), list(asked.values())
