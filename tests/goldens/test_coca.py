"""Golden sets covered: coca.

Features of both sides, tokens, caption logits, both losses, and the gradient of every parameter.
"""

import jax
import numpy as np
import pytest

from multimodal import config
from multimodal.interop import SETTINGS
from multimodal.objectives.contrastive import softmax_loss
from multimodal.objectives.objective import Vocabulary
from multimodal.objectives.tokens import Captioning
from tests.goldens.agreement import assert_close, assert_gradients, highest, imported, pictures
from tests.goldens.golden import load_golden

LAYOUT = "open_clip_coca"


@pytest.fixture(scope="module")
def golden():
    return load_golden("coca")


@pytest.fixture(params=[True, False], ids=["scan", "unrolled"])
def coca(golden, request):
    sizes = golden.config["config"]
    settings = SETTINGS[LAYOUT](
        {
            "embed_dim": sizes["embed_dim"],
            "vision_cfg": sizes["vision"],
            "text_cfg": sizes["text"],
            "multimodal_cfg": sizes["mm"],
        }
    )
    model, params = imported(LAYOUT, golden.weights, *settings, request.param)
    return model, params, {"image": pictures(golden), "text": golden.inputs["text"]}


def test_features_and_tokens(golden, coca):
    model, params, batch = coca

    @jax.jit
    def run(params):
        coca = model.bind(params)
        image, tokens = coca._picture(batch["image"], None)
        text, words = coca._text(batch["text"], None)
        return {"image": (image, tokens), "text": (text, words)}

    with highest():
        ours = run(params)
    for name, (embedding, tokens) in ours.items():
        features = golden.outputs[f"{name}_features"]
        unit = features / np.linalg.norm(features, axis=-1, keepdims=True)
        assert_close(embedding, unit, f"{name} embedding")
        assert_close(tokens, golden.outputs[f"{name}_tokens"], f"{name} tokens")


def test_losses_and_gradients(golden, coca):
    model, params, batch = coca
    batch = batch | {"valid": np.ones(len(batch["text"]), bool)}
    captioning = Captioning(config.Captioning(), Vocabulary(60, 0, -1, ()))

    def loss(params):
        outputs = model.bind(params)(batch)
        scale = outputs["temperature"]["image-text"]["log_scale"]
        contrast = softmax_loss(outputs["image"], outputs["text"], scale)
        caption, _ = captioning.loss(outputs, batch, batch)
        return contrast + 2 * caption, (contrast, caption, outputs)

    with highest():
        run = jax.jit(jax.value_and_grad(loss, has_aux=True))
        (total, (contrast, caption, outputs)), grads = run(params)
    y = golden.outputs
    assert_close(outputs["caption_logits"], y["logits"], "captions")
    scale = np.exp(outputs["temperature"]["image-text"]["log_scale"])
    logits = scale * np.asarray(outputs["image"]) @ np.asarray(outputs["text"]).T
    np.testing.assert_allclose(logits, y["contrastive_logits"], atol=2e-4)
    for ours, name in ((contrast, "contrastive"), (caption, "caption"), (total, "total")):
        np.testing.assert_allclose(ours, y[f"{name}_loss"], rtol=2e-6, atol=2e-6, err_msg=name)
    assert_gradients(LAYOUT, grads, golden.grads, model)
