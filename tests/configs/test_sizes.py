"""Full-size recipes have as many parameters as was published. Shapes only, no arrays."""

import math

import pytest

from multimodal.finetune.start import rename
from multimodal.models.build import build
from tests.configs import recipes

# Millions: open_clip's docs/model_profile.csv, 3b37473.
PUBLISHED = {
    "clip_b32": 151.28,
    "clip_b16": 149.62,
    "clip_l14": 427.62,
    "clip_l14:res=336,start=RUN": 427.94,
    "datacomp_small": 151.28,
    "datacomp_medium": 151.28,
    "siglip_b16": 203.16,
    "siglip_so400m": 877.36,
    "siglip_gopt16": 1499.89,
}


def shapes(name: str) -> dict[str, tuple[int, ...]]:
    config = recipes.load(name)
    found = build(config.model, config.preprocessing, config.dtype).shapes()
    return {path: leaf.shape for path, leaf in found.items()}


def parameters(name: str) -> int:
    return sum(map(math.prod, shapes(name).values()))


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_equal_the_published(name):
    assert round(parameters(name) / 1e6, 2) == PUBLISHED[name]


@pytest.mark.parametrize(
    ("name", "patches", "tokens"),
    [("clipa_l16", 36, 16), ("clipa_l16:stage=finetune,start=RUN", 196, 32)],
)
def test_clipa_is_vit_l_16_with_fewer_positions_and_no_class_token(name, patches, tokens):
    """open_clip counts 427.74 million with 197 and 77 positions."""
    less = 1024 * (1 + 197 - patches) + 768 * (77 - tokens)
    assert round((parameters(name) + less) / 1e6, 2) == 427.74


def test_coca_base_is_within_two_percent_of_the_paper():
    assert parameters("coca_base") == pytest.approx(383e6, rel=0.02)


@pytest.mark.parametrize(
    "name", ["clip_l14:res=336,start=RUN", "clipa_l16:stage=finetune,start=RUN"]
)
def test_a_second_stage_begins_with_all_parameters_and_other_positions(name):
    here, there = shapes(name), shapes(name.partition(":")[0])
    assert rename(recipes.load(name).start, here) == {path: path for path in there}
    others = {path for path in here if here[path] != there[path]}
    assert others and all(path.endswith("/positions/position") for path in others)
