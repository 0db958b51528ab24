"""The distribution of every parameter at initialisation, against the papers' formulas."""

import dataclasses
import math
import re
from typing import NamedTuple

import jax
import numpy as np
import pytest

from multimodal.config import DualEncoder, ImageTower, TextTower, Transformer
from multimodal.models.build import build
from multimodal.preprocessing import Preprocessing

WIDTH, DEPTH, MLP, PATCH, EMBED = 96, 3, 160, 8, 64


class Normal(NamedTuple):
    std: float


class Uniform(NamedTuple):
    bound: float


class Truncated(NamedTuple):
    """A normal cut at two standard deviations: of `std` before the cut."""

    std: float


class Exactly(NamedTuple):
    value: float


CUT = 0.87962566  # standard deviation of a unit normal that is cut at +-2


def xavier(fan_in, fan_out):
    return Uniform(math.sqrt(6 / (fan_in + fan_out)))


def lecun(fan_in):
    return Truncated(fan_in**-0.5 / CUT)


ZERO, ONE = Exactly(0.0), Exactly(1.0)
NORMS = {r".*norm/scale": ONE, r".*norm/bias": ZERO}
PIXELS = 3 * PATCH**2

# Dosovitskiy et al. 2021 and SigLIP, as in big_vision.
VIT = NORMS | {
    r".*/attention/(query|key|value|out)/kernel": xavier(WIDTH, WIDTH),
    r".*/attention/(query|key|value|out)/bias": ZERO,
    r".*/mlp/(up|down)/kernel": xavier(WIDTH, MLP),
    r".*/mlp/(up|down)/bias": Normal(1e-6),
    r".*/patches/linear/kernel": lecun(PIXELS),
    r".*/patches/linear/bias": ZERO,
    r".*/pooler/probe": xavier(1, WIDTH),
    r".*/positions/position": Normal(WIDTH**-0.5),
    r".*/tokens/table": Normal(WIDTH**-0.5),
    r".*/class_token/token": ZERO,
    r".*/projection/kernel": lecun(WIDTH),
    r".*/projection/bias": ZERO,
    r"temperature/image-text/scale": Exactly(math.log(10)),
    r"temperature/image-text/bias": Exactly(-10.0),
}
# Radford et al. 2021, as in the code released with it (PyTorch's own where that sets nothing).
CLIP = NORMS | {
    r".*/attention/(query|key|value|out)/bias": ZERO,
    r".*/text/.*/attention/(query|key|value)/kernel": Normal(WIDTH**-0.5),
    r".*/text/.*/attention/out/kernel": Normal((WIDTH * 2 * DEPTH) ** -0.5),
    r".*/text/.*/mlp/up/kernel": Normal((2 * WIDTH) ** -0.5),
    r".*/text/.*/mlp/down/kernel": Normal((WIDTH * 2 * DEPTH) ** -0.5),
    r".*/image/.*/attention/(query|key|value)/kernel": xavier(WIDTH, 3 * WIDTH),
    r".*/image/.*/attention/out/kernel": Uniform(WIDTH**-0.5),
    r".*/image/.*/mlp/up/kernel": Uniform(WIDTH**-0.5),
    r".*/image/.*/mlp/down/kernel": Uniform(MLP**-0.5),
    r".*/mlp/up/bias": Uniform(WIDTH**-0.5),
    r".*/mlp/down/bias": Uniform(MLP**-0.5),
    r".*/patches/linear/kernel": Uniform(PIXELS**-0.5),
    r".*/class_token/token": Normal(WIDTH**-0.5),
    r".*/image/positions/position": Normal(WIDTH**-0.5),
    r".*/text/positions/position": Normal(0.01),
    r".*/tokens/table": Normal(0.02),
    r".*/projection/kernel": Normal(WIDTH**-0.5),
    r"temperature/image-text/scale": Exactly(math.log(1 / 0.07)),
}
# Devlin et al. 2019: a truncated normal wherever there is no norm and no bias.
BERT = NORMS | {
    r".*/(?!.*norm).*/bias": ZERO,
    r".*/(kernel|table|position|token|probe)": Truncated(0.02),
    r"temperature/image-text/scale": Exactly(math.log(1 / 0.07)),
}


def dual_encoder(image_init, text_init, image, temperature):
    stack = Transformer(width=WIDTH, depth=DEPTH, heads=4, mlp=MLP)
    towers = {
        "image": ImageTower(
            image_size=64,
            patch_size=PATCH,
            projection="linear",
            transformer=dataclasses.replace(stack, init=image_init),
            **image,
        ),
        "text": TextTower(
            vocab_size=500,
            length=32,
            projection="linear" if text_init == "clip" else "linear_bias",
            transformer=dataclasses.replace(stack, init=text_init),
        ),
    }
    return DualEncoder(towers, embed=EMBED, **temperature)


SIGLIP = {"logit_scale_init": math.log(10), "logit_scale_max": None, "logit_bias_init": -10.0}
CLASS = {"class_token": True, "pooler": "class"}
CASES = {
    "siglip": (dual_encoder("vit", "vit", {}, SIGLIP), VIT),
    "vit": (dual_encoder("vit", "vit", CLASS, SIGLIP), VIT),
    "clip": (
        dual_encoder("clip_image", "clip", CLASS | {"patch_bias": False, "pre_norm": True}, {}),
        CLIP,
    ),
    "bert": (dual_encoder("bert", "bert", CLASS, {}), BERT),
}


def assert_drawn_from(x: np.ndarray, wanted, path: str) -> None:
    x = np.asarray(x, np.float64).ravel()
    if isinstance(wanted, Exactly):
        np.testing.assert_allclose(x, wanted.value, rtol=1e-6, err_msg=path)
        return
    bound, std = math.inf, wanted[0]
    if isinstance(wanted, Uniform):
        bound, std = wanted.bound, wanted.bound / math.sqrt(3)
    elif isinstance(wanted, Truncated):
        bound, std = 2 * wanted.std, wanted.std * CUT
    # Five standard errors; that of a standard deviation is largest for the normal.
    assert abs(x.mean()) < 5 * std / math.sqrt(x.size), path
    assert abs(x.std() / std - 1) < 5 / math.sqrt(2 * x.size), f"{path}: {x.std()} for {std}"
    assert np.abs(x).max() <= bound * 1.0001, path
    if x.size > 2000:  # long tails or none
        assert (np.abs(x).max() > 2.9 * std) == isinstance(wanted, Normal), path


@pytest.fixture(scope="module", params=CASES)
def drawn(request):
    settings, table = CASES[request.param]
    model = build(settings, Preprocessing(image_size=64, length=32), "float32")
    return model, jax.jit(model.init)(jax.random.key(0)), table


def test_every_parameter(drawn):
    _, params, table = drawn
    for path, x in params.items():
        matches = [wanted for pattern, wanted in table.items() if re.fullmatch(pattern, path)]
        assert len(matches) == 1, (path, matches)
        assert_drawn_from(x, matches[0], path)


def test_layers_and_parameters_are_drawn_apart(drawn):
    model, params, _ = drawn
    seen = {}
    for path, x in params.items():
        parts = list(x) if path in model.stacked else [x]
        for i, part in enumerate(np.asarray(p) for p in parts):
            if part.size > 1 and part.std() > 0:
                start = tuple((part.ravel()[:4] / part.std()).round(4))
                assert start not in seen, (path, i, seen.get(start))
                seen[start] = (path, i)


def test_another_seed_draws_other_numbers():
    settings, _ = CASES["siglip"]
    model = build(settings, Preprocessing(image_size=64, length=32), "float32")
    a, b = (model.init(jax.random.key(seed))["towers/text/tokens/table"] for seed in (0, 1))
    assert not np.allclose(a, b)
