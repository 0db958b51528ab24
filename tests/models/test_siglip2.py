"""SigLIP 2: what its parts say beside the dual encoder alone."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multimodal.config import DualEncoder, Heads, ImageTower, Siglip2, TextTower, Transformer
from multimodal.models.build import build
from multimodal.preprocessing import Preprocessing
from tests.models import oracle

STACK = Transformer(width=12, depth=2, heads=3, mlp=16)
DECODER = Transformer(width=8, depth=1, heads=2, mlp=16, cross_attention=True)
TOWERS = {
    "image": ImageTower(image_size=16, patch_size=4, transformer=STACK),
    "text": TextTower(vocab_size=20, length=7, transformer=STACK),
}
HEADS = Heads(hidden=10, bottleneck=6, prototypes=9)
SETTINGS = Siglip2(TOWERS, embed=12, logit_bias_init=-10.0, decoder=DECODER, heads=HEADS)
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
    own = {path: x for path, x in params.items() if path.startswith(("towers/", "temperature/"))}
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


def head_by_hand(params, name, x):
    """[..., width] to unit vectors, float64."""
    for layer in ("up", "middle", "down"):
        kernel, bias = (params[f"heads/{name}/{layer}/{part}"] for part in ("kernel", "bias"))
        x = np.asarray(x, np.float64) @ np.asarray(kernel, np.float64) + np.asarray(bias)
        x = x if layer == "down" else oracle.gelu(x)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_views_go_through_the_image_tower_and_the_heads(model, params):
    view = RNG.integers(0, 256, (2, 16, 16, 3), np.uint8)
    local = RNG.integers(0, 256, (2, 3, 8, 8, 3), np.uint8)
    masked = np.array([[3, 9], [0, 15]])

    @jax.jit
    def run(params):
        bound = model.bind(params)
        tower = bound.towers["image"]
        blank = bound.blank[...]
        return (
            bound({"view": view, "local_views": local}),
            bound({"view": view, "masked_patches": masked}),
            tower(view),
            tower(local.reshape(6, 8, 8, 3)),
            tower(view, blank=(masked, blank)),
        )

    params = params | {"blank": jnp.asarray(RNG.normal(size=12), jnp.float32)}
    found, hidden, seen, seen_local, seen_hidden = run(params)
    assert found.keys() == {
        "temperature", "weights", "view_features", "patch_features", "local_features"
    }  # fmt: skip
    by_hand = functools.partial(head_by_hand, params)
    close = functools.partial(np.testing.assert_allclose, atol=1e-5)
    close(found["view_features"], by_hand("view", seen["embedding"]))
    close(found["patch_features"], by_hand("patch", seen["tokens"]))
    close(found["local_features"], by_hand("view", seen_local["embedding"]).reshape(2, 3, 6))
    chosen = np.asarray(seen_hidden["tokens"])[np.arange(2)[:, None], masked]
    close(hidden["masked_features"], by_hand("patch", chosen))
    for name in ("view", "patch"):
        prototypes = np.asarray(params[f"heads/{name}/prototypes"])
        close(found["weights"][name], prototypes / np.linalg.norm(prototypes, axis=1)[:, None])
