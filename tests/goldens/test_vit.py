"""Golden sets covered: vit.

Hidden states, logits, cross-entropy, and the gradient of every parameter, in both of the layouts
that ViTForImageClassification has had.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multimodal.interop import SETTINGS, export_weights, import_weights
from tests.goldens.agreement import (
    assert_close,
    assert_gradients,
    assert_hidden,
    highest,
    imported,
    pictures,
)
from tests.goldens.golden import load_golden

LAYOUT = "huggingface_vit_5"


@pytest.fixture(scope="module")
def golden():
    return load_golden("vit")


@pytest.fixture(params=[True, False], ids=["scan", "unrolled"])
def vit(golden, request):
    settings = SETTINGS[LAYOUT](golden.config["config"]["model"])
    return imported(LAYOUT, golden.weights, *settings, request.param)


def test_hidden_states(golden, vit):
    model, params = vit
    with highest():
        run = jax.jit(
            lambda p: model.bind(p).towers["image"](pictures(golden), capture=("hidden",))
        )
        ours = run(params)
    assert_hidden(ours["hidden"], golden.outputs, "")
    assert_close(ours["tokens"], golden.outputs["last_hidden_state"], "after the norm")
    assert_close(ours["embedding"], golden.outputs["logits"], "logits")


def test_loss_and_gradients(golden, vit):
    model, params = vit
    labels = golden.inputs["labels"]

    def loss(params):
        logits = model.bind(params).towers["image"](pictures(golden))["embedding"]
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1).mean()

    with highest():
        value, grads = jax.jit(jax.value_and_grad(loss))(params)
    np.testing.assert_allclose(value, golden.outputs["loss"], rtol=2e-6, atol=2e-6)
    assert_gradients(LAYOUT, grads, golden.grads, model)


def test_layout_of_the_hub(vit):
    model, params = vit
    theirs = export_weights("huggingface_vit", params)
    assert "vit.encoder.layer.1.attention.attention.query.weight" in theirs
    again = import_weights("huggingface_vit", theirs, model)
    assert again.keys() == params.keys()
    assert all(np.array_equal(again[path], params[path]) for path in params)
