"""Towers in one space: unit vectors, temperature, precision."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from multimodal.config import DualEncoder, ImageTower, TextTower, Transformer
from multimodal.models.build import build
from multimodal.models.dual_encoder import Temperature
from multimodal.models.rngs import Rngs
from multimodal.preprocessing import Preprocessing

STACK = Transformer(width=12, depth=2, heads=3, mlp=16)
SETTINGS = DualEncoder(
    {
        "image": ImageTower(image_size=16, patch_size=4, projection="linear", transformer=STACK),
        "text": TextTower(vocab_size=20, length=8, transformer=STACK),
    },
    embed=6,
)
RNG = np.random.default_rng(0)
BATCH = {
    "image": RNG.integers(0, 256, (4, 16, 16, 3), np.uint8),
    "text": RNG.integers(0, 20, (4, 8)),
}


def model_and_params(settings=SETTINGS, dtype="float32"):
    model = build(settings, Preprocessing(image_size=16, length=8), dtype)
    return model, jax.jit(model.init)(jax.random.key(0))


def run(model, params, batch=BATCH, key=None):
    """The model's outputs, and each tower's own."""

    def both(params):
        module = model.bind(params)
        towers = {name: module.towers[name](batch[name]) for name in batch}
        encoded = {name: module.encode(name, batch[name]) for name in batch}
        return module(batch, key), towers, encoded

    return jax.jit(both)(params)


def test_outputs_are_unit_vectors_of_the_towers():
    model, params = model_and_params()
    out, towers, encoded = run(model, params)
    for name in ("image", "text"):
        raw = np.asarray(towers[name]["embedding"], np.float64)
        unit = raw / np.linalg.norm(raw, axis=-1, keepdims=True)
        np.testing.assert_allclose(out[name], unit, atol=1e-5)
        np.testing.assert_allclose(encoded[name], out[name], atol=1e-6)


def test_several_texts_are_encoded_as_each_alone():
    model, params = model_and_params()
    ids = RNG.integers(0, 20, (4, 3, 8))
    out = run(model, params, BATCH | {"text": ids[:, 0]})[0]
    several = jax.jit(lambda params: model.bind(params)(BATCH | {"text": ids}))(params)
    assert several["text"].shape == (4, 3, 6)
    np.testing.assert_allclose(several["image"], out["image"], atol=1e-6)
    for i in range(3):
        alone = run(model, params, {"text": ids[:, i]})[0]["text"]
        np.testing.assert_allclose(several["text"][:, i], alone, atol=1e-6)


def test_a_batch_without_a_modality_leaves_its_tower_alone():
    model, params = model_and_params()
    out = run(model, params, {"text": BATCH["text"]})[0]
    assert out.keys() == {"text", "temperature"}


def test_towers_have_different_dropout():
    stack = dataclasses.replace(STACK, dropout=0.5)
    tower = dataclasses.replace(SETTINGS.towers["text"], transformer=stack)
    twins = dataclasses.replace(SETTINGS, towers={"a": tower, "b": tower}, pairs=(("a", "b"),))
    model, params = model_and_params(twins)
    for path in params:  # the same weights in both
        if path.startswith("towers/a/"):
            params[path.replace("towers/a/", "towers/b/")] = params[path]
    batch = {"a": BATCH["text"], "b": BATCH["text"]}
    out = run(model, params, batch)[0]
    np.testing.assert_allclose(out["a"], out["b"], atol=1e-6)
    noisy = run(model, params, batch, jax.random.key(1))[0]
    assert not np.allclose(noisy["a"], noisy["b"], atol=1e-2)


def test_temperature_is_read_as_it_is_and_names_its_limit():
    graph, params = nnx.split(Temperature(5.0, 4.5, None, rngs=Rngs(0)))
    read = lambda p: nnx.merge(graph, p)()["log_scale"]  # noqa: E731
    value, grad = jax.value_and_grad(read)(params)
    assert value == 5.0  # a limit in the forward pass would give no gradient to come back by
    assert jax.tree.leaves(grad) == [1.0]
    limits = model_and_params()[0].largest
    assert limits == {"temperature/image-text/scale": pytest.approx(math.log(100))}


def test_bias_is_there_for_siglip_alone():
    assert "bias" not in Temperature(2.0, None, None, rngs=Rngs(0))()
    assert Temperature(2.0, None, -10.0, rngs=Rngs(0))()["bias"] == -10


def test_bfloat16_compute_keeps_float32_parameters_and_embeddings():
    model, params = model_and_params(dtype="bfloat16")
    assert {leaf.dtype for leaf in params.values()} == {jnp.dtype("float32")}
    low, towers, _ = run(model, params)
    full = run(model_and_params()[0], params)[0]
    for name in ("image", "text"):
        assert low[name].dtype == jnp.float32
        assert towers[name]["tokens"].dtype == jnp.bfloat16
        np.testing.assert_allclose(np.linalg.norm(low[name], axis=-1), 1, atol=1e-5)
        cosine = (np.asarray(low[name]) * np.asarray(full[name])).sum(-1)
        assert (cosine > 0.995).all() and (cosine < 1 - 1e-7).any()


def test_parameters_know_their_axes():
    model, params = model_and_params()
    assert params.keys() == model.axes.keys() == model.shapes().keys()
    for path, leaf in params.items():
        assert len(model.axes[path]) == leaf.ndim, path
        assert (path in model.stacked) == ("/stack/blocks/" in path), path
