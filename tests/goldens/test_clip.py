"""Golden sets covered: clip_gelu, clip_quickgelu, clip_openai.

Hidden states of both towers, embeddings, logits, loss, and the gradient of every parameter.
"""

import functools

import jax
import numpy as np
import pytest

from multimodal.interop import SETTINGS
from multimodal.objectives.contrastive import softmax_loss
from tests.goldens.agreement import (
    assert_close,
    assert_gradients,
    assert_hidden,
    highest,
    imported,
    pictures,
)
from tests.goldens.golden import load_golden

SETS = {
    "clip_gelu": "huggingface_clip",
    "clip_quickgelu": "huggingface_clip",
    "clip_openai": "openai_clip",
}
SCAN = pytest.mark.parametrize("scan", [True, False], ids=["scan", "unrolled"])


@functools.cache
def reference(name):
    return load_golden(name)


def clip(name, scan):
    golden = reference(name)
    sizes = golden.config["config"]
    if SETS[name] == "openai_clip":
        settings = SETTINGS["openai_clip"](sizes["model"])
    else:
        activation = {"hidden_act": sizes["act"]}
        settings = SETTINGS["huggingface_clip"](
            {
                "text_config": sizes["text"] | activation,
                "vision_config": sizes["vision"] | activation,
                "projection_dim": sizes["projection_dim"],
            }
        )
    model, params = imported(SETS[name], golden.weights, *settings, scan)
    texts = golden.inputs["text" if "text" in golden.inputs else "input_ids"]
    return golden, model, params, {"image": pictures(golden), "text": texts}


def loss(params, model, batch):
    outputs = model.bind(params)(batch)
    scale = outputs["temperature"]["image-text"]["log_scale"]
    return softmax_loss(outputs["image"], outputs["text"], scale), outputs


@SCAN
@pytest.mark.parametrize("name", ["clip_gelu", "clip_quickgelu"])
def test_hidden_states(name, scan):
    golden, model, params, batch = clip(name, scan)
    real = golden.inputs["attention_mask"].astype(bool)

    @jax.jit
    def run(params):
        towers = model.bind(params).towers
        return (
            towers["text"](batch["text"], mask=real, capture=("hidden",)),
            towers["image"](batch["image"], capture=("hidden",)),
        )

    with highest():
        text, image = run(params)
    y = golden.outputs
    assert_hidden(text["hidden"], y, "text_model_output.", real)
    assert_hidden(image["hidden"], y, "vision_model_output.")
    last = y["text_model_output.last_hidden_state"]
    assert_close(text["tokens"][real], last[real], "text, after the norm, real positions")
    assert_close(text["tokens"], last, "text, after the norm, padded positions")
    pooled = y["vision_model_output.pooler_output"]
    assert_close(image["tokens"][:, 0], pooled, "image, pooled")


@SCAN
@pytest.mark.parametrize("name", SETS)
def test_outputs_loss_and_gradients(name, scan):
    golden, model, params, batch = clip(name, scan)
    with highest():
        run = jax.jit(jax.value_and_grad(lambda p: loss(p, model, batch), has_aux=True))
        (value, outputs), grads = run(params)
    y = golden.outputs
    image, text = np.asarray(outputs["image"]), np.asarray(outputs["text"])
    for tower, ours in (("image", image), ("text", text)):
        if f"{tower}_embeds" in y:
            assert_close(ours, y[f"{tower}_embeds"], f"{tower} embeddings")
        else:
            features = y[f"{tower}_features"]
            unit = features / np.linalg.norm(features, axis=-1, keepdims=True)
            assert_close(ours, unit, f"{tower} features, normalised")
    scale = np.exp(outputs["temperature"]["image-text"]["log_scale"])
    np.testing.assert_allclose(scale * image @ text.T, y["logits_per_image"], atol=2e-4)
    np.testing.assert_allclose(value, y["loss"], rtol=2e-6, atol=2e-6)
    assert_gradients(SETS[name], grads, golden.grads, model)


@SCAN
def test_features_of_openai(scan):
    golden, model, params, batch = clip("clip_openai", scan)

    @jax.jit
    def run(params):
        towers = model.bind(params).towers
        return {name: towers[name](batch[name])["embedding"] for name in ("image", "text")}

    with highest():
        ours = run(params)
    for name in ("image", "text"):
        assert_close(ours[name], golden.outputs[f"{name}_features"], f"{name} features")
