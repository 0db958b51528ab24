"""Golden sets covered: siglip, siglip2_naflex.

Hidden states of both towers, embeddings, logits, loss, and the gradient of every parameter.
"""

import jax
import numpy as np
import pytest

from multimodal.interop import SETTINGS
from multimodal.objectives.contrastive import sigmoid_loss
from tests.goldens.agreement import (
    assert_close,
    assert_gradients,
    assert_hidden,
    highest,
    imported,
    pictures,
)
from tests.goldens.golden import load_golden

LAYOUTS = {"siglip": "huggingface_siglip", "siglip2_naflex": "huggingface_siglip2"}


@pytest.fixture(scope="module", params=LAYOUTS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def golden(name):
    return load_golden(name)


@pytest.fixture(params=[True, False], ids=["scan", "unrolled"])
def siglip(name, golden, request):
    layout, sizes = LAYOUTS[name], golden.config["config"]
    settings = SETTINGS[layout]({"text_config": sizes["text"], "vision_config": sizes["vision"]})
    model, params = imported(layout, golden.weights, *settings, request.param)
    x = golden.inputs
    if name == "siglip":
        image = pictures(golden)
    else:
        image = {"patches": x["pixel_values"], "grid": x["spatial_shapes"]}
    return model, params, {"image": image, "text": x["input_ids"]}


def real_tokens(golden) -> dict:
    """Of each tower; None where all are."""
    mask = golden.inputs.get("pixel_attention_mask")
    return {"text": None, "image": None if mask is None else mask.astype(bool)}


def test_hidden_states(golden, siglip):
    model, params, batch = siglip

    @jax.jit
    def run(params):
        towers = model.bind(params).towers
        return {name: towers[name](batch[name], capture=("hidden",)) for name in towers}

    with highest():
        ours = run(params)
    for name, prefix in (("text", "text_model_output."), ("image", "vision_model_output.")):
        real = real_tokens(golden)[name]
        if real is not None:
            np.testing.assert_array_equal(ours[name]["mask"], real)
        assert_hidden(ours[name]["hidden"], golden.outputs, prefix, real)
        last = golden.outputs[f"{prefix}last_hidden_state"]
        assert_close(ours[name]["tokens"], last, f"{name}, after the norm")
        pooled = golden.outputs[f"{prefix}pooler_output"]
        assert_close(ours[name]["embedding"], pooled, f"{name}, pooled")


def test_outputs_loss_and_gradients(name, golden, siglip):
    model, params, batch = siglip

    def loss(params):
        outputs = model.bind(params)(batch)
        t = outputs["temperature"]["image-text"]
        return sigmoid_loss(outputs["image"], outputs["text"], t["log_scale"], t["bias"]), outputs

    with highest():
        (value, outputs), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    y = golden.outputs
    image, text = np.asarray(outputs["image"]), np.asarray(outputs["text"])
    assert_close(image, y["image_embeds"], "image embeddings")
    assert_close(text, y["text_embeds"], "text embeddings")
    t = outputs["temperature"]["image-text"]
    logits = np.exp(t["log_scale"]) * image @ text.T + t["bias"]
    np.testing.assert_allclose(logits, y["logits_per_image"], atol=2e-4)
    np.testing.assert_allclose(value, y["loss"], rtol=2e-6, atol=2e-6)
    assert_gradients(LAYOUTS[name], grads, golden.grads, model)
