"""Every named model resolves, and has as many parameters as published. Shapes only, no arrays."""

import math

import pytest

from multimodal import zoo
from multimodal.checks import check
from multimodal.config import Config, from_dict
from multimodal.errors import UserError
from multimodal.models.build import build

NAMED = [(zoo.clip, name) for name in zoo.CLIP] + [(zoo.siglip, name) for name in zoo.SIGLIP]
PROFILED = [(family, name) for family, name in NAMED if name != "g-opt-16-256"]
COCA = [(zoo.coca, name) for name in zoo.COCA]

# Millions, all and those of the image tower: open_clip's docs/model_profile.csv, 3b37473.
PUBLISHED = {
    "ViT-B-32": (151.28, 87.85),
    "ViT-B-16": (149.62, 86.19),
    "ViT-L-14": (427.62, 303.97),
    "ViT-L-14-336": (427.94, 304.29),
    "ViT-L-16": (427.74, 304.09),
    "ViT-H-14": (986.11, 632.08),
    "ViT-g-14": (1366.68, 1012.65),
    "ViT-bigG-14": (2539.57, 1844.91),
    "B-16": (203.16, 92.88),
    "B-16-256": (203.20, 92.93),
    "B-16-384": (203.45, 93.18),
    "B-16-512": (203.79, 93.52),
    "L-16": (652.15, 315.96),
    "L-16-384": (652.48, 316.28),
    "SO400M-14": (877.36, 427.68),
    "SO400M-14-384": (877.96, 428.23),
}
TEXT = {"L": 336.19, "So400m": 449.73}  # text towers of L-16 and SO400M-14-384, ibid.


def run_of(named) -> Config:
    objective = {"kind": "contrastive"}
    task = {"data": {"source": {"kind": "scenes"}}, "objectives": {"pairs": objective}}
    return from_dict(Config, {"name": "zoo", "tasks": {"pairs": task}, **named})


def count(named) -> tuple[int, int]:
    config = run_of(named)
    shapes = build(config.model, config.preprocessing, "bfloat16").shapes()
    sizes = {path: math.prod(leaf.shape) for path, leaf in shapes.items()}
    image = sum(n for path, n in sizes.items() if path.startswith("towers/image/"))
    return sum(sizes.values()), image


@pytest.mark.parametrize(("family", "name"), PROFILED, ids=[name for _, name in PROFILED])
def test_parameters_equal_the_published(family, name):
    total, image = count(family(name))
    assert (round(total / 1e6, 2), round(image / 1e6, 2)) == PUBLISHED[name]


@pytest.mark.parametrize("text", TEXT)
def test_g_opt_beside_a_text_tower_of_another_size(text):
    """The text tower is the published one but for its projection, to 1,536 instead of its width."""
    total, image = count(zoo.siglip("g-opt-16-256", text))
    wider = (zoo.SIZES[text][0] + 1) * (1536 - zoo.SIZES[text][0])
    width, hidden, depth = 1536, 6144, 40
    attention, mlp = 4 * width * (width + 1), 2 * width * hidden + width + hidden
    blocks = depth * (attention + mlp + 4 * width) + 2 * width
    patches, positions = (16 * 16 * 3 + 1) * width, 256 * width
    pooler = attention + mlp + 2 * width + width  # one probe, one norm
    assert image == blocks + patches + positions + pooler
    scalars = 2  # scale and bias of the logits
    assert abs((total - image - wider - scalars) / 1e6 - TEXT[text]) <= 0.005


def test_vit_b_32_to_the_last_parameter():
    assert count(zoo.clip("ViT-B-32")) == (151_277_313, 87_849_216)


@pytest.mark.parametrize(("name", "millions"), [("base", 383), ("large", 787)])
def test_coca_is_as_large_as_published(name, millions):
    total, _ = count(zoo.coca(name))
    assert abs(total / 1e6 - millions) <= 0.02 * millions


@pytest.mark.parametrize(("family", "name"), NAMED + COCA, ids=[name for _, name in NAMED + COCA])
def test_settings_pass_the_checks(family, name):
    check(run_of(family(name)))


@pytest.mark.parametrize("size", zoo.SIZES)
def test_heads_divide_the_width(size):
    stack = zoo.transformer(size)
    assert stack["width"] % stack["heads"] == 0


def test_the_nearest_name_is_offered():
    with pytest.raises(UserError, match="no CLIP model 'ViT-B32'; did you mean 'ViT-B-32'"):
        zoo.clip("ViT-B32")
