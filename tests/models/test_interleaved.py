"""open_clip's decoder block, against NumPy float64; its halves are dropped out one by one."""

import dataclasses

import jax
import numpy as np

from multimodal.config import Transformer
from multimodal.models.interleaved import InterleavedBlock
from multimodal.models.rngs import Rngs
from tests.models import oracle

STACK = Transformer(
    width=12, depth=1, heads=3, mlp=16, causal=True, cross_attention=True, activation="gelu"
)
RNG = np.random.default_rng(0)
X, CONTEXT = (RNG.normal(size=(2, n, 12)).astype(np.float32) for n in (5, 4))
MASK = np.array([[1, 1, 1, 0], [1, 1, 1, 1]], bool)[:, None, None]


def block(**options):
    settings = dataclasses.replace(STACK, **options)
    return oracle.randomised(InterleavedBlock(settings, rngs=Rngs(0)))


def test_block():
    made = block()
    own, x, context = made.own, X.astype(np.float64), CONTEXT.astype(np.float64)
    y, _ = oracle.attend(own.attention, oracle.layer_norm(own.attention_norm, x), causal=True)
    x = x + y
    x = x + oracle.mlp(own.mlp, oracle.layer_norm(own.mlp_norm, x))
    y, weights = oracle.attend(
        made.cross,
        oracle.layer_norm(made.cross_norm, x),
        oracle.layer_norm(made.context_norm, context),
        mask=MASK,
    )
    x = x + y
    x = x + oracle.mlp(made.mlp, oracle.layer_norm(made.mlp_norm, x))
    ours, extras = jax.jit(lambda x: made(x, context=CONTEXT, context_mask=MASK))(X)
    np.testing.assert_allclose(ours, x, atol=1e-4)
    np.testing.assert_allclose(extras["cross_attention"], weights, atol=1e-5)


def test_drop_path_leaves_out_whole_branches():
    made = block(drop_path=0.5)

    @jax.jit
    def run(key):
        return made(X, context=CONTEXT, drop_path_rate=np.float32(0.5), key=key)[0]

    found = [np.asarray(run(jax.random.key(i))) for i in range(40)]
    untouched = np.mean([np.allclose(y[b], X[b]) for y in found for b in range(2)])
    assert 0 < untouched < 0.25  # 1 / 16: all four branches fall out together
    assert len({y[0].tobytes() for y in found}) > 10
