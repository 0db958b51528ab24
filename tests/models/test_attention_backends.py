"""Attention that builds no scores against XLA's, which is tested against NumPy: values and
gradients, on one device and on meshes; and what the default is."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multimodal.config import Transformer
from multimodal.errors import UserError
from multimodal.models import attention_backends as backends
from multimodal.models import attention_blockwise
from multimodal.models.attention import attention
from multimodal.models.rngs import Rngs
from multimodal.models.stack import Stack
from multimodal.parallel.collectives import collectives, is_ring
from multimodal.parallel.mesh import make_mesh
from tests.models import oracle

RNG = np.random.default_rng(0)
BATCH, LENGTH, HEADS, DIM = 4, 24, 4, 8
Q, K, V, W = (RNG.normal(size=(BATCH, LENGTH, HEADS, DIM)).astype(np.float32) for _ in range(4))
OF_KEYS = RNG.random((BATCH, 1, 1, LENGTH)) < 0.6
OF_KEYS[..., 0] = True
OF_PAIRS = RNG.random((BATCH, 1, LENGTH, LENGTH)) < 0.6
OF_PAIRS[..., 0] = True
MASKS = {"none": None, "keys": OF_KEYS, "pairs": OF_PAIRS}


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    monkeypatch.setattr(attention_blockwise, "TILE", 5)


def computed(backend, q=Q, k=K, v=V, **options):
    """The output and the three gradients of a weighted sum of it; and the program."""

    def loss(q, k, v):
        out, _ = attention(q, k, v, backend=backend, **options)
        weights = np.resize(W, out.shape)
        return (out * weights).sum(), out

    step = jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True)).lower(q, k, v).compile()
    (_, out), gradients = step(q, k, v)
    return (out, *gradients), step


@functools.cache
def by_xla(mask, causal):
    return computed("xla", mask=MASKS[mask], causal=causal)[0]


def same(found, wanted):
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize(("mask", "causal"), [("none", True), ("keys", False), ("pairs", True)])
def test_blockwise(mask, causal):
    found, _ = computed("blockwise", mask=MASKS[mask], causal=causal)
    same(found, by_xla(mask, causal))
    wanted, _ = oracle.attention(Q, K, V, MASKS[mask], causal=causal)
    np.testing.assert_allclose(found[0], wanted, atol=1e-5)


def test_more_keys_than_queries_and_a_query_with_nothing_to_look_at():
    options = {"q": Q[:, :11], "mask": OF_PAIRS[:, :, :11], "causal": True}
    same(computed("blockwise", **options)[0], computed("xla", **options)[0])
    nothing = OF_KEYS & (np.arange(BATCH) != 1)[:, None, None, None]
    same(computed("blockwise", mask=nothing)[0], computed("xla", mask=nothing)[0])


@pytest.mark.parametrize(
    ("mesh", "mask", "causal"),
    [
        ({"data": 2, "sequence": 4}, "keys", False),
        ({"fsdp": 2, "tensor": 2, "sequence": 2}, "pairs", True),
    ],
)
def test_round_the_ring_and_no_device_gathers_what_others_have(mesh, mask, causal):
    mesh = make_mesh(mesh)
    split = jax.NamedSharding(mesh, jax.P(("data", "fsdp"), "sequence", "tensor"))
    with jax.set_mesh(mesh):
        arrays = (jax.device_put(x, split) for x in (Q, K, V))
        found, step = computed("blockwise", *arrays, mask=MASKS[mask], causal=causal)
    same(found, by_xla(mask, causal))
    sent = [c for c in collectives(step.as_text(), mesh) if any(c.shapes)]
    assert {(c.kind, c.axes, c.times) for c in sent} == {
        ("collective-permute", frozenset({"sequence"}), mesh.shape["sequence"])
    }
    assert all(is_ring(c.pairs, mesh.shape["sequence"]) for c in sent)


@pytest.mark.parametrize(
    ("mask", "causal", "queries", "keys"), [(False, False, 512, 512), (True, True, 500, 600)]
)
def test_splash_interpreted(mask, causal, queries, keys, monkeypatch):
    """The kernel's own code without a TPU; with padding and several blocks, and with neither."""
    monkeypatch.setattr(backends, "splash", functools.partial(backends.splash, interpret=True))
    q, k, v = (RNG.normal(size=(1, n, 1, 8)).astype(np.float32) for n in (queries, keys, keys))
    seen = RNG.random((1, 1, 1, keys)) < 0.6
    seen[..., 0] = True
    options = {"mask": seen if mask else None, "causal": causal}
    found, wanted = (computed(name, q, k, v, **options)[0] for name in ("splash", "xla"))
    same(found, wanted)


def test_whole_sequences_of_some_heads(monkeypatch):
    """Kernels are handed all of the length and a part of the heads; here cuDNN, by XLA instead."""
    seen = []

    def ask(q, k, v, bias, mask, *, implementation, **options):
        seen.append((implementation, q.shape))
        return compute(q, k, v, bias, mask, implementation="xla", **options)

    compute = jax.nn.dot_product_attention
    monkeypatch.setattr(jax.nn, "dot_product_attention", ask)
    mesh = make_mesh({"data": 2, "sequence": 4})
    with jax.set_mesh(mesh):
        found, step = computed("cudnn", mask=OF_PAIRS)
    same(found, by_xla("pairs", False))
    assert set(seen) == {("cudnn", (BATCH // 2, LENGTH, HEADS // 4, DIM))}
    swaps = [c for c in collectives(step.as_text(), mesh) if c.kind == "all-to-all"]
    assert swaps and all(c.axes == {"sequence"} for c in swaps)


def chosen(queries, keys, mask=None, heads=12, dtype=jnp.bfloat16, **options):
    q, k = (jax.ShapeDtypeStruct((2, n, heads, 64), dtype) for n in (queries, keys))
    shape = {"keys": (2, 1, 1, keys), "pairs": (queries, keys)}
    mask = mask and jax.ShapeDtypeStruct(shape[mask], bool)
    return backends.choose("auto", q, k, mask, **{"plain": False} | options)


def test_the_default_of_each_platform(monkeypatch):
    def on(platform):
        monkeypatch.setattr(backends, "_platform", lambda: platform)

    assert backends._platform() == "cpu"
    for platform, long in {"cpu": "blockwise", "tpu": "splash", "gpu": "cudnn"}.items():
        on(platform)
        assert chosen(64, 64) == chosen(1, 4096) == chosen(4096, 4096, plain=True) == "xla"
        assert chosen(4096, 4096) == chosen(4096, 4096, "keys") == long
        with jax.set_mesh(make_mesh({"sequence": 8})):  # 12 heads do not divide
            assert chosen(4096, 4096) == "blockwise"
            assert chosen(4096, 4096, cached=True) == "xla"
    assert chosen(256, 256) == "cudnn" and chosen(256, 256, dtype=jnp.float32) == "xla"
    assert chosen(577, 577) == "cudnn" and chosen(577, 577, "keys") == "blockwise"
    on("tpu")
    assert chosen(512, 512) == "xla" and chosen(577, 577) == "splash"
    assert chosen(4096, 4096, "pairs") == "blockwise"


def test_what_a_backend_does_not_take_is_refused():
    with pytest.raises(UserError, match="'blockwise' takes no bias"):
        attention(Q, K, V, bias=np.zeros((1, 1, 1, LENGTH)), backend="blockwise")
    with pytest.raises(UserError, match="takes masks of keys alone"):
        attention(Q, K, V, mask=OF_PAIRS, backend="splash")
    with jax.set_mesh(make_mesh({"sequence": 8})):
        with pytest.raises(UserError, match="23 tokens: they do not divide over .*sequence=8"):
            attention(Q, K[:, 1:], V[:, 1:], backend="blockwise")
        with pytest.raises(UserError, match="4 heads of a device do not divide over .*sequence=8"):
            attention(Q, K, V, backend="splash")
    stack = Stack(Transformer(8, 1, 2, 8, attention="blockwise"), rngs=Rngs(0))
    with pytest.raises(UserError, match="attention: only XLA forms the weights"):
        stack(np.zeros((1, 6, 8), np.float32), capture=("attention",))
