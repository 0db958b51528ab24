"""SigLIP 2: what its parts say beside the dual encoder alone."""

import dataclasses

import jax
import numpy as np
import pytest

from multimodal.config import DualEncoder, ImageTower, Siglip2, TextTower, Transformer
from multimodal.models.build import build
from multimodal.preprocessing import Preprocessing

STACK = Transformer(width=12, depth=2, heads=3, mlp=16)
DECODER = Transformer(width=8, depth=1, heads=2, mlp=16, cross_attention=True)
TOWERS = {
    "image": ImageTower(image_size=16, patch_size=4, transformer=STACK),
    "text": TextTower(vocab_size=20, length=7, transformer=STACK),
}
SETTINGS = Siglip2(TOWERS, embed=12, logit_bias_init=-10.0, decoder=DECODER)
PREPROCESSING = Preprocessing(image_size=16, length=7)
RNG = np.random.default_rng(0)
BATCH = {
    "image": RNG.integers(0, 256, (2, 16, 16, 3), np.uint8),
    "text": RNG.integers(1, 20, (2, 7)),
    "parallel": np.array([True, False]),
}


@pytest.fixture(scope="module")
def model():
    return build(SETTINGS, PREPROCESSING, "float32")


@pytest.fixture(scope="module")
def params(model):
    return jax.jit(model.init)(jax.random.key(0))


def test_towers_are_those_of_the_dual_encoder(model, params):
    fields = {f.name for f in dataclasses.fields(DualEncoder)} - {"kind"}
    plain = build(
        DualEncoder(**{name: getattr(SETTINGS, name) for name in fields}), PREPROCESSING, "float32"
    )
    own = {path: x for path, x in params.items() if not path.startswith("captioner/")}
    assert own.keys() == plain.shapes().keys()
    found = jax.jit(lambda p: model.bind(p)(BATCH))(params)
    wanted = jax.jit(lambda p: plain.bind(p)(BATCH))(own)
    for name in ("image", "text"):
        np.testing.assert_allclose(found[name], wanted[name], atol=1e-6)
        np.testing.assert_allclose(
            model.bind(params).encode(name, BATCH[name]), wanted[name], atol=1e-6
        )
    assert found["temperature"].keys() == wanted["temperature"].keys()
    assert found["caption_features"].shape == (2, 7, 8)
    assert found["weights"]["caption"].shape == (20, 8)


def test_captions_are_read_off_the_tokens_before_the_pooler(model, params):
    run = jax.jit(lambda p: model.bind(p)(BATCH)["caption_features"])
    before = run(params)
    pooler = "towers/image/pooler/mlp/down/kernel"
    np.testing.assert_array_equal(run(params | {pooler: -params[pooler]}), before)
    patches = "towers/image/patches/linear/kernel"
    assert (np.abs(run(params | {patches: -params[patches]}) - before).max(-1) > 1e-6).all()
