"""Records of the scenes data set: a plain dict for every (parameters, split, index)."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from multimodal.data.scenes import render, sampling
from multimodal.data.scenes.claims import statements
from multimodal.data.scenes.language import captions
from multimodal.data.scenes.questions import questions
from multimodal.data.scenes.world import Scene
from multimodal.errors import UserError


@dataclasses.dataclass(frozen=True)
class SceneParams:
    """All that decides the bytes of the data set."""

    seed: int = 0
    image_size: int = 32  # pixels, square
    train: int = 20_000  # scenes; a multiple of group_size, and so is validation
    validation: int = 1_024
    test: int = 512  # retrieval among one- and two-object scenes; a multiple of 128, at most 768
    test_many: int = 256  # scenes of three and four objects
    test_single: int = 512  # one-object scenes for zero-shot classification
    group_size: int = 4  # near neighbours in a row
    captions: int = 5  # a scene, 1 to 7

    def __post_init__(self):
        if not 1 <= self.group_size <= 8:
            raise UserError(f"scenes: group_size={self.group_size} must be from 1 to 8")
        if not 1 <= self.captions <= 7:
            raise UserError(f"scenes: captions={self.captions} must be from 1 to 7")
        if not 16 <= self.image_size <= 1024:
            raise UserError(f"scenes: image_size={self.image_size} must be from 16 to 1024")
        for name in ("train", "validation"):
            value = getattr(self, name)
            if value < 1 or value % self.group_size:
                raise UserError(
                    f"scenes: {name}={value} must be a positive multiple of "
                    f"group_size={self.group_size}"
                )
        if self.test % 128 or not 0 < self.test <= 768:
            raise UserError(f"scenes: test={self.test} must be one of 128, 256, 384, 512, 640, 768")
        if self.test_many < 1 or self.test_single < 1:
            raise UserError("scenes: test_many and test_single must be at least 1")

    def sizes(self) -> dict[str, int]:
        """Records by split."""
        return {split: getattr(self, split) for split in sampling.SPLITS}


def scenes(params: SceneParams, split: str) -> Iterator[Scene]:
    """The scenes of one split in their order on disk."""
    size = params.sizes()[split]
    if split in ("train", "validation"):
        for index in range(size // params.group_size):
            yield from sampling.group(params.seed, split, index, params.group_size)
    elif split == "test":
        yield from sampling.retrieval_scenes(params.seed, size)
    elif split == "test_many":
        yield from sampling.many_scenes(params.seed, size)
    else:
        yield from sampling.single_scenes(params.seed, size)


def record(params: SceneParams, split: str, index: int, scene: Scene) -> dict:
    """The record at `index`: picture, words, labels. See `builder` for the fields."""
    rng = sampling.generator(params.seed, split, index)
    scene = tuple(scene[i] for i in rng.permutation(len(scene)))
    objects = render.place(scene, rng)
    image = render.draw(objects, render.background(rng), params.image_size)
    asked, answers = questions(scene, 4, rng)
    told, truths = statements(scene, 2, rng)
    return {
        "key": f"{split}/{index:06d}",
        "image": render.encode_png(image),
        "captions": captions(scene, params.captions, rng),
        "num_objects": len(scene),
        "shapes": np.array([thing.shape for thing in scene], np.int32),
        "colours": np.array([thing.colour for thing in scene], np.int32),
        "sizes": np.array([thing.size for thing in scene], np.int32),
        "places": np.array([thing.place for thing in scene], np.int32),
        "centres": np.array([(thing.x, thing.y) for thing in objects], np.float32),
        "boxes": np.array([thing.box() for thing in objects], np.float32),
        "questions": asked,
        "answers": answers,
        "statements": told,
        "truths": np.array(truths),
        "shape_label": scene[0].shape,
        "colour_label": scene[0].colour,
    }


def records(params: SceneParams, split: str) -> Iterator[dict]:
    """All records of one split in order."""
    for index, scene in enumerate(scenes(params, split)):
        yield record(params, split, index, scene)
