"""Recipes say what they are for, and are read so."""

import pytest

from multimodal.errors import UserError
from multimodal.parallel.chips import CHIPS
from multimodal.planning.claims import claimed
from tests.configs.recipes import ROOT

FULL_SIZE = [
    "clip_b32", "clip_b16", "clip_l14", "clipa_l16", "coca_base", "datacomp_small",
    "datacomp_medium", "lit_b16", "siglip_b16", "siglip_so400m", "siglip_gopt16",
    "siglip2_b16", "vit_b16_supervised",
]  # fmt: skip


@pytest.mark.parametrize("name", FULL_SIZE)
def test_every_full_size_recipe_names_an_accelerator(name):
    chip, _, shape = claimed(str(ROOT / "configs" / f"{name}.py")).partition(":")
    assert chip in CHIPS and "x" in shape


@pytest.mark.parametrize(
    ("told", "want"),
    [
        ("A model (2023), for v5p:4x4x8.", "v5p:4x4x8"),
        ("A model,\nfor\nv5e:8x8: one of two.", "v5e:8x8"),
        ("Small: ten minutes on two CPU\ncores.", "cpu:1"),
        ("For h200:8, or more.", None),
        ("for h200:8", "h200:8"),
        ("Better for v5e:16x16 than most.", "v5e:16x16"),
        ("Anything.", None),
    ],
)
def test_claims(told, want, tmp_path):
    path = tmp_path / "recipe.py"
    path.write_text(f'"""{told}"""\n')
    if want:
        assert claimed(str(path)) == want
    else:
        with pytest.raises(UserError, match="names no accelerator: say --topology"):
            claimed(str(path))


def test_a_saved_config_claims_nothing(tmp_path):
    with pytest.raises(UserError, match="--topology"):
        claimed(str(tmp_path / "config.json"))
