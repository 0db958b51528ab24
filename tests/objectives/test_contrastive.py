"""Contrastive losses: the dense form against NumPy, the others against the dense form."""

import contextlib
import functools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from multimodal.errors import UserError
from multimodal.objectives.contrastive import sigmoid_loss, softmax_loss
from multimodal.parallel.mesh import make_mesh
from tests.commands import FUSED

LOSSES = {"softmax": softmax_loss, "sigmoid": sigmoid_loss}
MESHES = {
    "data=8": {"data": 8},
    "fsdp=8": {"fsdp": 8},
    "data=2,fsdp=2,tensor=2": {"data": 2, "fsdp": 2, "tensor": 2},
    "fsdp=4,tensor=2": {"fsdp": 4, "tensor": 2},
    "data=2,sequence=4": {"data": 2, "sequence": 4},
}
BATCH, EMBED = 40, 12
BROKEN = np.array([3, 17, 18, 19, 39])


def unit(rng, batch=BATCH, dtype=np.float32):
    x = rng.normal(size=(batch, EMBED))
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(dtype)


def arguments(name, batch=BATCH, dtype=np.float32, scale=10.0):
    """Embeddings, log scale and, for the sigmoid loss, bias."""
    rng = np.random.default_rng(0)
    args = [unit(rng, batch, dtype), unit(rng, batch, dtype), np.asarray(np.log(scale), dtype)]
    return args + [np.asarray(-scale, dtype)] * (name == "sigmoid")


def some_broken():
    valid = np.ones(BATCH, bool)
    valid[BROKEN] = False
    return valid


def evaluate(name, args, mesh=None, **options):
    """Loss and gradients for every argument as NumPy, embeddings sharded if there is a mesh."""
    loss = partial(LOSSES[name], **options)
    with jax.set_mesh(mesh) if mesh else contextlib.nullcontext():
        if mesh:
            args = shard(args, mesh)
        function = jax.value_and_grad(loss, argnums=tuple(range(len(args))))
        compiled = jax.jit(function).lower(*args).compile(FUSED)
        return jax.tree.map(np.asarray, compiled(*args))


def shard(args, mesh):
    rows = NamedSharding(mesh, PartitionSpec(("data", "fsdp")))
    whole = NamedSharding(mesh, PartitionSpec())
    return [jax.device_put(x, rows if np.ndim(x) else whole) for x in args]


@functools.cache
def dense(name):
    return evaluate(name, arguments(name), form="dense")


@functools.cache
def dense_with_broken(name):
    return evaluate(name, arguments(name), valid=some_broken(), form="dense")


def assert_agree(got, want, loss_tolerance=1e-6, grad_tolerance=1e-5):
    np.testing.assert_allclose(got[0], want[0], rtol=loss_tolerance)
    for a, b in zip(got[1], want[1], strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=0, atol=grad_tolerance * np.abs(b).max())


def numpy_loss(name, a, b, log_scale, bias=0.0):
    """The formulas in plain NumPy, on rows that all take part."""
    logits = np.exp(log_scale) * a @ b.T + bias
    if name == "sigmoid":
        signs = 2 * np.eye(len(a)) - 1
        return np.logaddexp(0, -signs * logits).sum(1).mean()
    per_row = np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1)) + logits.max(1)
    per_column = np.log(np.exp(logits - logits.max(0)).sum(0)) + logits.max(0)
    return ((per_row + per_column) / 2 - np.diag(logits)).mean()


@pytest.mark.parametrize("name", LOSSES)
def test_dense_equals_numpy_and_its_finite_differences(name):
    args = arguments(name, dtype=np.float64)
    with jax.enable_x64(True):
        loss, grads = evaluate(name, args, form="dense")
    np.testing.assert_allclose(loss, numpy_loss(name, *args), rtol=1e-12)
    for i, grad in enumerate(grads):
        direction = np.random.default_rng(i).normal(size=np.shape(args[i]))
        ends = []
        for step in (1e-5, -1e-5):
            moved = [x + step * direction if i == j else x for j, x in enumerate(args)]
            ends.append(numpy_loss(name, *moved))
        slope = (ends[0] - ends[1]) / 2e-5
        np.testing.assert_allclose(np.sum(grad * direction), slope, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("form", ["chunked", "ring"])
@pytest.mark.parametrize("axes", MESHES)
def test_every_mesh_agrees_with_dense(name, form, axes):
    # Chunks of 3 divide neither the batch of 40 nor the rings' shares of 5, 10 and 20.
    args, valid = arguments(name), some_broken()
    got = evaluate(name, args, make_mesh(MESHES[axes]), valid=valid, form=form, chunk=3)
    assert_agree(got, dense_with_broken(name))


@pytest.mark.parametrize("name", LOSSES)
def test_ring_is_exact_in_float64(name):
    args = arguments(name, dtype=np.float64)
    mesh = make_mesh({"data": 4, "fsdp": 2})
    with jax.enable_x64(True):
        want = evaluate(name, args, form="dense")
        assert_agree(evaluate(name, args, mesh, form="ring", chunk=2), want, 1e-14, 1e-13)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("chunk", [1, 7, None])
def test_any_chunk_gives_the_same(name, chunk):
    assert_agree(evaluate(name, arguments(name), form="chunked", chunk=chunk), dense(name))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("form", ["dense", "ring"])
def test_broken_slots_are_as_if_absent(name, form):
    args, valid = arguments(name), some_broken()
    want_loss, want = evaluate(name, [x[valid] if x.ndim else x for x in args], form="dense")
    args = [np.where(valid[:, None], x, np.nan) if x.ndim else x for x in args]
    loss, got = evaluate(name, args, make_mesh({"fsdp": 8}), valid=valid, form=form, chunk=3)
    assert_agree((loss, [g[valid] if g.ndim else g for g in got]), (want_loss, want))
    for g in got[:2]:
        assert not np.any(g[BROKEN])


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("form", ["dense", "ring"])
def test_nothing_valid_is_zero(name, form):
    valid = np.zeros(BATCH, bool)
    mesh = make_mesh({"data": 8})
    loss, grads = evaluate(name, arguments(name), mesh, valid=valid, form=form)
    assert loss == 0
    assert all(not np.any(g) for g in grads)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("form", ["dense", "ring"])
def test_stable_at_large_logits(name, form):
    """Cosines of 1 and -1 at scale 100: logits of +-100, where exp overflows in float32."""
    args = arguments(name, scale=100.0)
    args[1] = np.concatenate([-args[0][:20], args[0][20:]])
    args[3:] = [np.float32(0)] * (name == "sigmoid")
    loss, grads = evaluate(name, args, make_mesh({"data": 8}), form=form, chunk=4)
    exact = numpy_loss(name, *[x.astype(np.float64) for x in args])
    np.testing.assert_allclose(loss, exact, rtol=2e-6)
    with jax.enable_x64(True):
        want = evaluate(name, [x.astype(np.float64) for x in args], form="dense")[1]
    for g, w in zip(grads, want, strict=True):
        np.testing.assert_allclose(g, w, rtol=0, atol=3e-5 * np.abs(w).max())


@pytest.mark.parametrize("name", LOSSES)
def test_bfloat16_embeddings_keep_their_type(name):
    args = [jnp.asarray(x, jnp.bfloat16) if x.ndim else x for x in arguments(name)]
    options = {"valid": some_broken(), "ids": np.arange(BATCH) // 2}
    want = evaluate(name, [x.astype(jnp.float32) for x in args], form="dense", **options)
    loss, grads = evaluate(name, args, make_mesh({"data": 8}), form="ring", chunk=3, **options)
    assert loss.dtype == jnp.float32
    assert [g.dtype for g in grads[:3]] == [jnp.bfloat16, jnp.bfloat16, jnp.float32]
    got = loss, [g.astype(jnp.float32) for g in grads]
    assert_agree(got, want, grad_tolerance=2.0**-8)


@pytest.mark.parametrize("name", LOSSES)
def test_bfloat16_embeddings_travel_without_gradients(name):
    """Each tower visits the other, two bytes a number, and no gradient is taken home."""
    sent = {}
    for dtype in map(jnp.dtype, ("float32", "bfloat16")):
        jaxpr = lowered(name, "ring", 4, dtype=dtype)[0].jaxpr
        numbers = [x for x in permuted(jaxpr) if x.shape == (8, EMBED)]
        sent[dtype] = sum(x.size * x.dtype.itemsize for x in numbers)
        assert {x.dtype for x in numbers} == {dtype}
    # A chunk and what it brings home, both ways, here; a chunk alone, but of either tower, there.
    tours = {"sigmoid": (2, 1), "softmax": (3, 1.5)}[name]
    assert sent == {k: n * 2 * 8 * EMBED * 4 for k, n in zip(sent, tours, strict=True)}


@pytest.mark.parametrize("name", LOSSES)
def test_loss_alone_and_a_weighted_loss(name):
    """The loss without gradients, and a cotangent other than 1."""
    args = arguments(name)
    want_loss, want = dense(name)
    with jax.set_mesh(make_mesh({"data": 8})):
        loss = partial(LOSSES[name], form="ring", chunk=4)
        np.testing.assert_allclose(jax.jit(loss)(*args), want_loss, rtol=1e-6)
        grad = jax.jit(jax.grad(lambda *args: 3 * loss(*args)))(*args)
    np.testing.assert_allclose(grad, 3 * want[0], rtol=0, atol=3e-5 * np.abs(want[0]).max())


def lowered(name, form, devices, batch=128, chunk=8, dtype=np.float32):
    args = [x.astype(dtype) if x.ndim else x for x in arguments(name, batch)]
    mesh = make_mesh({"data": devices}, devices=jax.devices()[:devices])
    loss = partial(LOSSES[name], form=form, chunk=chunk)
    with jax.set_mesh(mesh):
        args = shard(args, mesh)
        function = jax.value_and_grad(loss, argnums=tuple(range(len(args))))
        return jax.make_jaxpr(function)(*args), jax.jit(function).lower(*args)


def equations(jaxpr):
    """All that is computed, loop bodies and all."""
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            for inner in value if isinstance(value, (tuple, list)) else [value]:
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from equations(inner)


def shapes(jaxpr):
    return (tuple(v.aval.shape) for equation in equations(jaxpr) for v in equation.outvars)


def permuted(jaxpr):
    """What one hop of each loop sends."""
    hops = [e for e in equations(jaxpr) if e.primitive.name == "ppermute"]
    return [v.aval for hop in hops for v in hop.invars]


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("form", ["chunked", "ring"])
def test_no_matrix_of_all_logits(name, form):
    found = list(shapes(lowered(name, form, 4)[0].jaxpr))
    assert (8, 8) in found, "the tiles should be seen, or this test looks at nothing"
    largest = max(x[0] * x[1] for x in found if len(x) == 2 and min(x) > 1 and EMBED not in x)
    assert largest <= 8 * 8
    assert (128, 128) in list(shapes(lowered(name, "dense", 4)[0].jaxpr))


@pytest.mark.parametrize("name", LOSSES)
def test_ring_is_a_loop(name):
    """As many permutations and operations on 8 devices as on 4, at the same share a device."""
    texts = [
        lowered(name, "ring", devices, batch=16 * devices)[1].compile().as_text()
        for devices in (4, 8)
    ]
    permutes = [text.count(" collective-permute(") for text in texts]
    assert permutes[0] == permutes[1] > 0
    lines = [text.count("\n") for text in texts]
    assert abs(lines[1] - lines[0]) <= 0.05 * lines[0]


def test_ring_without_a_mesh_is_chunked():
    args = arguments("softmax")
    want = evaluate("softmax", args, form="chunked", chunk=8)
    got = evaluate("softmax", args, form="ring", chunk=8)
    assert_agree(got, want, 0, 0)


def test_wrong_arguments_are_named():
    a, b, log_scale = arguments("softmax")
    with pytest.raises(UserError, match="form 'rings'"):
        softmax_loss(a, b, log_scale, form="rings")
    with pytest.raises(UserError, match="both be"):
        softmax_loss(a, b[:, :-1], log_scale)
    with pytest.raises(UserError, match="one flag a row"):
        softmax_loss(a, b, log_scale, valid=np.ones(3, bool))
    with pytest.raises(UserError, match="must be scalars"):
        softmax_loss(a, b, log_scale.reshape(1))
    with pytest.raises(UserError, match="at least 1"):
        softmax_loss(a, b, log_scale, form="chunked", chunk=0)
    with (
        jax.set_mesh(make_mesh({"data": 8})),
        pytest.raises(UserError, match="batch of 39 does not divide over the 8 devices"),
    ):
        softmax_loss(a[:39], b[:39], log_scale, form="ring")
