"""From sequences to vectors, against NumPy float64."""

import jax.numpy as jnp
import numpy as np

from multimodal.config import Transformer
from multimodal.models.initializers import block_init
from multimodal.models.poolers import AttentionPooler, MapPooler, mean_pool, pool_at
from multimodal.models.rngs import Rngs
from tests.models import oracle

INIT = block_init(Transformer(width=12, depth=1, heads=3, mlp=20))
RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 5, 12)).astype(np.float32)
MASK = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], bool)


def test_map_pooler():
    made = MapPooler(12, 3, 20, "gelu_tanh", 1e-3, INIT, rngs=Rngs(0))
    pooler = oracle.randomised(made)
    probe = np.broadcast_to(oracle.f64(pooler.probe), (2, 1, 12))
    for mask in (None, MASK):
        keys = None if mask is None else mask[:, None, None]
        y, _ = oracle.attend(pooler.attention, probe, X.astype(np.float64), keys)
        wanted = y + oracle.mlp(pooler.mlp, oracle.layer_norm(pooler.norm, y))
        np.testing.assert_allclose(pooler(X, mask), wanted[:, 0], atol=2e-5)


def test_attention_pooler():
    made = AttentionPooler(12, 3, 4, 1e-3, INIT, rngs=Rngs(0))
    pooler = oracle.randomised(made)
    queries = oracle.layer_norm(pooler.query_norm, oracle.f64(pooler.queries))
    queries = np.broadcast_to(queries, (2, 4, 12))
    context = oracle.layer_norm(pooler.norm, X.astype(np.float64))
    wanted, _ = oracle.attend(pooler.attention, queries, context)
    np.testing.assert_allclose(pooler(X), wanted, atol=2e-5)


def test_mean_counts_real_positions_only():
    wanted = np.stack([X[0, :3].mean(0), X[1].mean(0)])
    np.testing.assert_allclose(mean_pool(jnp.asarray(X), MASK), wanted, atol=1e-6)
    np.testing.assert_allclose(mean_pool(jnp.asarray(X), None), X.mean(1), atol=1e-6)
    assert np.isfinite(mean_pool(jnp.asarray(X), np.zeros((2, 5), bool))).all()


def test_pool_at_a_position():
    np.testing.assert_array_equal(pool_at(X, jnp.array([3, 0])), [X[0, 3], X[1, 0]])
