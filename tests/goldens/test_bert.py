"""Golden sets covered: bert_pretrain.

Hidden states, pooled vector, both heads, loss, and the gradient of every parameter.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multimodal.interop import SETTINGS
from tests.goldens.agreement import (
    assert_close,
    assert_gradients,
    assert_hidden,
    highest,
    imported,
)
from tests.goldens.golden import load_golden

LAYOUT = "huggingface_bert"


@pytest.fixture(scope="module")
def golden():
    return load_golden("bert_pretrain")


@pytest.fixture(params=[True, False], ids=["scan", "unrolled"])
def bert(golden, request):
    settings = SETTINGS[LAYOUT](golden.config["config"]["model"])
    return imported(LAYOUT, golden.weights, *settings, request.param)


def test_hidden_states(golden, bert):
    model, params = bert
    x = golden.inputs
    real = x["attention_mask"].astype(bool)

    @jax.jit
    def run(params):
        bert = model.bind(params)
        options = {"mask": real, "types": x["token_type_ids"], "capture": ("hidden",)}
        out = bert.text(x["input_ids"], **options)
        return out["hidden"], out["tokens"], bert.pair_head.pool(out["tokens"])

    with highest():
        hidden, last, pooled = run(params)
    assert_hidden(hidden, golden.outputs, "", real)
    assert_close(last, golden.outputs["last_hidden_state"], "last")
    assert_close(pooled, golden.outputs["pooler_output"], "pooled")


def test_heads_loss_and_gradients(golden, bert):
    model, params = bert
    x, y = golden.inputs, golden.outputs
    labels, chosen = np.maximum(x["labels"], 0), x["labels"] >= 0

    def cross_entropy(logits, labels):
        scores = jax.nn.log_softmax(logits)
        return -jnp.take_along_axis(scores, labels[..., None], axis=-1)[..., 0]

    def loss(params):
        # The mask follows from the padding id.
        batch = {"text": x["input_ids"], "text_types": x["token_type_ids"]}
        outputs = model.bind(params)(batch)
        words = (cross_entropy(outputs["word_logits"], labels) * chosen).sum() / chosen.sum()
        pairs = cross_entropy(outputs["match_logits"], x["next_sentence_label"])
        return words + pairs.mean(), outputs

    assert np.array_equal(x["input_ids"] != 0, x["attention_mask"])
    with highest():
        (value, outputs), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    assert_close(outputs["word_logits"], y["prediction_logits"], "words")
    assert_close(outputs["match_logits"], y["seq_relationship_logits"], "pairs")
    np.testing.assert_allclose(value, y["loss"], rtol=2e-6, atol=2e-6)
    assert_gradients(LAYOUT, grads, golden.grads, model)
