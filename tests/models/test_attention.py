"""Attention against NumPy float64, query by query."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multimodal.config import Transformer
from multimodal.models.attention import Attention, Cache, attention
from multimodal.models.initializers import block_init
from multimodal.models.rngs import Rngs
from tests.models import oracle

RNG = np.random.default_rng(0)
Q, K, V = (RNG.normal(size=(2, n, 3, 4)).astype(np.float32) for n in (5, 7, 7))
MASK = RNG.random((2, 1, 5, 7)) < 0.6
MASK[..., 0] = True
BIAS = RNG.normal(size=(1, 3, 5, 7)).astype(np.float32)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("bias", [None, BIAS])
@pytest.mark.parametrize("mask", [None, MASK, MASK[:, :, :1]])
@pytest.mark.parametrize("scores", ["dot", "cosine"])
def test_attention(scores, mask, bias, causal):
    out, weights = attention(Q, K, V, mask=mask, bias=bias, causal=causal, scores=scores)
    wanted = oracle.attention(Q, K, V, mask, bias, causal, scores == "cosine")
    np.testing.assert_allclose(out, wanted[0], atol=2e-6)
    np.testing.assert_allclose(weights, wanted[1], atol=1e-6)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("mask", [None, MASK, MASK[:, :, :1], MASK[0, 0]])
def test_cudnn_is_asked_for_the_same(monkeypatch, mask, causal):
    """Without a GPU: what is handed over is what cuDNN takes, computed by XLA instead."""

    def ask(q, k, v, bias, mask, *, implementation, **options):
        assert implementation == "cudnn"
        for x in (mask, bias):  # it refuses masks that are broadcast over queries
            assert x is None or x.shape[-2:] == (q.shape[1], k.shape[1])
        return compute(q, k, v, bias, mask, implementation="xla", **options)

    compute = jax.nn.dot_product_attention
    monkeypatch.setattr(jax.nn, "dot_product_attention", ask)
    k, v = K[:, :5], V[:, :5]
    mask = None if mask is None else mask[..., :5]
    bias = BIAS[..., :5]
    out, _ = attention(Q, k, v, mask=mask, bias=bias, causal=causal, backend="cudnn")
    wanted, _ = attention(Q, k, v, mask=mask, bias=bias, causal=causal)
    np.testing.assert_allclose(out, wanted, atol=2e-6)


def test_a_query_with_nothing_to_look_at_gives_no_nan():
    none = np.zeros((1, 1, 1, 7), bool)
    value, grad = jax.value_and_grad(lambda q: attention(q, K, V, mask=none)[0].sum())(Q)
    assert np.isfinite(value) and np.isfinite(grad).all()


def test_softmax_is_float32_in_bfloat16():
    low = [jnp.asarray(x, jnp.bfloat16) for x in (Q, K, V)]
    out, weights = attention(*low)
    assert out.dtype == jnp.bfloat16 and weights.dtype == jnp.float32
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-6)


def test_dropout_zeroes_weights_and_rescales_the_rest():
    identity = np.broadcast_to(np.eye(7, dtype=np.float32)[:, None], (2, 7, 3, 7))
    out, weights = attention(Q, K, identity, dropout_rate=0.5, key=jax.random.key(0))
    used = np.swapaxes(out, 1, 2)  # [batch, heads, queries, keys]
    dropped = used == 0
    assert 0.3 < dropped.mean() < 0.7
    np.testing.assert_allclose(used, np.where(dropped, 0, 2 * weights), rtol=1e-5)
    off = attention(Q, K, identity, dropout_rate=0.5, key=None)[0]
    np.testing.assert_array_equal(off, attention(Q, K, identity)[0])


def layer(**options):
    settings = Transformer(width=12, depth=2, heads=3, mlp=8)
    made = Attention(12, 3, block_init(settings), rngs=Rngs(0), **options)
    return oracle.randomised(made)


@pytest.mark.parametrize("causal", [False, True])
def test_self_attention_layer(causal):
    module, x = layer(causal=causal), RNG.normal(size=(2, 6, 12)).astype(np.float32)
    y, weights, _ = module(x)
    wanted = oracle.attend(module, x, causal=causal)
    np.testing.assert_allclose(y, wanted[0], atol=2e-5)
    np.testing.assert_allclose(weights, wanted[1], atol=2e-6)


def test_cross_attention_layer():
    module, x = layer(), RNG.normal(size=(2, 6, 12)).astype(np.float32)
    context = RNG.normal(size=(2, 4, 12)).astype(np.float32)
    mask = np.array([[1, 1, 0, 1], [1, 0, 0, 0]], bool)[:, None, None]
    y, weights, _ = module(x, context, mask=mask)
    wanted = oracle.attend(module, x, context, mask)
    np.testing.assert_allclose(y, wanted[0], atol=2e-5)
    np.testing.assert_allclose(weights, wanted[1], atol=2e-6)


def test_cache_gives_what_causal_attention_gives():
    module, x = layer(causal=True), RNG.normal(size=(2, 6, 12)).astype(np.float32)
    empty = jnp.zeros((2, 8, 3, 4))
    cache = Cache(empty, empty, jnp.int32(0))
    seen = (jnp.arange(8) <= jnp.arange(3)[:, None])[None, None]
    first, _, cache = module(x[:, :3], mask=seen, cache=cache)
    parts = [first]
    for i in range(3, 6):
        y, _, cache = module(x[:, i : i + 1], cache=cache)
        parts.append(y)
    np.testing.assert_allclose(jnp.concatenate(parts, 1), module(x)[0], atol=1e-5)
    assert cache.used == 6
