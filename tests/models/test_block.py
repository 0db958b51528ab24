"""One block against NumPy float64, pre-norm and post-norm, with and without cross-attention."""

import numpy as np
import pytest

from multimodal.config import Transformer
from multimodal.models.block import Block
from multimodal.models.rngs import Rngs
from tests.models import oracle

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 5, 12)).astype(np.float32)
CONTEXT = RNG.normal(size=(2, 3, 12)).astype(np.float32)
MASK = np.array([[1, 1, 1, 1, 0], [1, 1, 1, 0, 0]], bool)[:, None, None]
CONTEXT_MASK = np.array([[1, 1, 0], [1, 1, 1]], bool)[:, None, None]


def block_of(**options):
    settings = Transformer(width=12, depth=2, heads=3, mlp=20, norm_eps=1e-3, **options)
    return oracle.randomised(Block(settings, rngs=Rngs(0)))


def wanted(block, pre, causal, cross):
    x = X.astype(np.float64)

    def branch(x, f, norm):
        if pre:
            return x + f(oracle.layer_norm(norm, x))
        return oracle.layer_norm(norm, x + f(x))

    x = branch(
        x,
        lambda y: oracle.attend(block.attention, y, mask=MASK, causal=causal)[0],
        block.attention_norm,
    )
    if cross:
        x = branch(
            x,
            lambda y: oracle.attend(block.cross, y, CONTEXT, CONTEXT_MASK)[0],
            block.cross_norm,
        )
    return branch(x, lambda y: oracle.mlp(block.mlp, y), block.mlp_norm)


@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "quick_gelu"])
@pytest.mark.parametrize("position", ["pre", "post"])
def test_block(position, activation):
    block = block_of(norm_position=position, activation=activation)
    y, _ = block(X, mask=MASK)
    np.testing.assert_allclose(y, wanted(block, position == "pre", False, False), atol=2e-5)


@pytest.mark.parametrize("position", ["pre", "post"])
def test_causal_block_with_cross_attention(position):
    block = block_of(norm_position=position, activation="gelu", causal=True, cross_attention=True)
    y, extras = block(X, mask=MASK, context=CONTEXT, context_mask=CONTEXT_MASK)
    np.testing.assert_allclose(y, wanted(block, position == "pre", True, True), atol=2e-5)
    weights = extras["cross_attention"]  # [batch, heads, length, keys]
    assert weights.shape == (2, 3, 5, 3)
    np.testing.assert_array_equal(weights[0, :, :, 2], 0)
    assert np.triu(extras["attention"][0, 0], 1).sum() == 0


def test_attention_maps_come_out():
    block = block_of(activation="gelu")
    _, extras = block(X, mask=MASK)
    normed = oracle.layer_norm(block.attention_norm, X.astype(np.float64))
    weights = oracle.attend(block.attention, normed, mask=MASK)[1]
    np.testing.assert_allclose(extras["attention"], weights, atol=2e-6)
