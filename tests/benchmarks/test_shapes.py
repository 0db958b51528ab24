"""Both sides train the same model on the same batch."""

import math

import numpy as np
import pytest

from benchmarks import shapes
from multimodal.interop.settings import huggingface_clip
from multimodal.models.build import build


@pytest.mark.parametrize("name, parameters", [("tiny", 3_192_449), ("b32", 151_277_313)])
def test_the_other_side_has_the_same_model(name, parameters):
    """As its config.json is read by the importer; B/32 has the size that OpenAI's has."""
    config = shapes.run(shapes.named(name), 4)
    model, preprocessing = huggingface_clip(shapes.huggingface(config.model))
    assert model == config.model
    for setting in ("image_size", "length", "mean", "std"):
        assert getattr(preprocessing, setting) == getattr(config.preprocessing, setting)
    found = build(config.model, config.preprocessing, "float32").shapes()
    assert sum(math.prod(leaf.shape) for leaf in found.values()) == parameters


def test_texts_end_once_and_are_padded():
    config = shapes.run(shapes.named("b32"), 16)
    text, end = shapes.batch(config)["text"], config.model.towers["text"].end_id
    first = (text == end).argmax(1)
    assert len(set(first)) > 4
    for row, at in zip(text, first, strict=True):
        assert 2 <= at < 77 and (row[:at] < end).all() and (row[at:] == end).all()


def test_pictures_are_normalised_as_ours_are():
    config = shapes.run(shapes.named("tiny"), 2)
    images = shapes.batch(config)["image"]
    pixels = shapes.normalised(images, config)
    assert pixels.shape == (2, 3, 64, 64) and pixels.dtype == np.float32
    blue = (images[1, 5, 7, 2] / 255 - 0.40821073) / 0.27577711
    assert pixels[1, 2, 5, 7] == pytest.approx(blue, rel=1e-5)


@pytest.mark.parametrize("name", [*shapes.LARGE, "tiny-siglip"])
def test_the_loss_is_that_of_the_model(name):
    config = shapes.run(shapes.named(name, keep="inputs"), 4, "bfloat16")
    siglip = name in ("SO400M-14", "tiny-siglip")
    objective = config.tasks["pairs"].objectives["contrastive"]
    assert objective.loss == ("sigmoid" if siglip else "softmax")
    assert {tower.transformer.keep for tower in config.model.towers.values()} == {"inputs"}
