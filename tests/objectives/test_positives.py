"""Several matches an example, in both contrastive losses: every form against plain NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multimodal import config
from multimodal.errors import UserError
from multimodal.objectives.contrastive import softmax_loss
from multimodal.objectives.objective import Vocabulary
from multimodal.objectives.pairs import ContrastivePair, fingerprint
from multimodal.parallel.mesh import make_mesh
from tests.objectives.test_contrastive import LOSSES, arguments, evaluate, some_broken

IDS = np.random.default_rng(1).integers(0, 9, 40).astype(np.int32)
RING = {"data": 4, "fsdp": 2}


def numpy_loss(name, ids, valid, a, b, log_scale, bias=0.0):
    """The formulas, one anchor at a time over the rows that take part."""
    a, b, ids = a[valid], b[valid], ids[valid]
    logits = np.exp(log_scale) * a @ b.T + bias
    total = 0.0
    for i, own in enumerate(ids):
        match = ids == own
        if name == "sigmoid":
            total += np.logaddexp(0, np.where(match, -logits[i], logits[i])).sum()
            continue
        for way in (logits[i], logits[:, i]):
            total -= np.mean([way[j] - np.log(np.exp(way).sum()) for j in np.flatnonzero(match)])
    return total / len(ids) / (1 if name == "sigmoid" else 2)


@functools.cache
def dense(name):
    with jax.enable_x64(True):
        args = arguments(name, dtype=np.float64)
        return args, evaluate(name, args, valid=some_broken(), ids=IDS, form="dense")


@pytest.mark.parametrize("name", LOSSES)
def test_dense_equals_numpy_and_its_finite_differences(name):
    args, (loss, grads) = dense(name)
    np.testing.assert_allclose(loss, numpy_loss(name, IDS, some_broken(), *args), rtol=1e-12)
    for i, grad in enumerate(grads):
        direction = np.random.default_rng(i).normal(size=np.shape(args[i]))
        ends = []
        for step in (1e-5, -1e-5):
            moved = [x + step * direction if i == j else x for j, x in enumerate(args)]
            ends.append(numpy_loss(name, IDS, some_broken(), *moved))
        slope = (ends[0] - ends[1]) / 2e-5
        np.testing.assert_allclose(np.sum(grad * direction), slope, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(("form", "parts"), [("chunked", 1), ("ring", 1), ("ring", 2)])
def test_chunks_and_the_ring_equal_dense(name, form, parts):
    """Of an id in two parts, neither tells examples apart alone."""
    args, (loss, grads) = dense(name)
    ids = IDS if parts == 1 else np.stack([IDS // 3, IDS % 3], axis=1)
    mesh = make_mesh(RING)
    with jax.enable_x64(True):
        got = evaluate(name, args, mesh, valid=some_broken(), ids=ids, form=form, chunk=3)
    np.testing.assert_allclose(got[0], loss, rtol=1e-13)
    for g, want in zip(got[1], grads, strict=True):
        np.testing.assert_allclose(g, want, rtol=0, atol=1e-10 * np.abs(want).max())


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("form", ["dense", "ring"])
def test_ids_that_all_differ_change_nothing(name, form):
    args, ids = arguments(name), np.random.default_rng(0).permutation(40).astype(np.int32)
    options = {"mesh": make_mesh(RING), "valid": some_broken(), "form": form, "chunk": 3}
    plain, got = (evaluate(name, args, **options, ids=i) for i in (None, ids))
    assert got[0] == plain[0]
    for g, want in zip(got[1], plain[1], strict=True):
        np.testing.assert_array_equal(g, want)


@pytest.mark.parametrize("name", LOSSES)
def test_float32_ring_keeps_its_accuracy(name):
    _, (loss, grads) = dense(name)
    args = arguments(name)
    got = evaluate(name, args, make_mesh(RING), valid=some_broken(), ids=IDS, form="ring", chunk=3)
    np.testing.assert_allclose(got[0], loss, rtol=1e-6)
    for g, want in zip(got[1], grads, strict=True):
        np.testing.assert_allclose(g, want, rtol=0, atol=1e-5 * np.abs(want).max())


def test_ids_of_the_wrong_shape_are_named():
    a, b, log_scale = arguments("softmax")
    with pytest.raises(UserError, match="ids have shape"):
        softmax_loss(a, b, log_scale, ids=np.zeros(39, np.int32))


def test_fingerprints_tell_texts_apart():
    rows = np.indices([3] * 6, np.int32).reshape(6, -1).T  # all 729 rows of six out of three tokens
    seen = np.asarray(jax.jit(fingerprint)(rows))
    assert seen.shape == (729, 2) and seen.dtype == np.int32
    np.testing.assert_array_equal(fingerprint(jnp.asarray(rows)), seen)
    assert len(set(seen[:, 0])) == len(set(seen[:, 1])) == 729  # either half tells them apart
    # Order matters, and so do large steps in one token.
    odd = np.array([[1, 2, 3], [3, 2, 1], [2, 1, 3], [1 << 17, 2, 3], [1 << 16, 2, 3]], np.int32)
    assert len({tuple(row) for row in np.asarray(fingerprint(jnp.asarray(odd)))}) == 5


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("positives", ["own", "label", "text"])
def test_of_several_texts_the_loss_is_the_mean(name, positives):
    settings = config.Contrastive(loss=name, form="dense", positives=positives)
    objective = ContrastivePair(settings, Vocabulary(100, 0, -1, ()))
    a, b, *scalars = map(jnp.asarray, arguments(name))
    several = jnp.stack([b, b[::-1], jnp.roll(b, 7, axis=0)], axis=1)
    text = np.random.default_rng(0).integers(0, 2, (40, 3, 2)).astype(np.int32)
    rest = {"label": jnp.asarray(IDS), "valid": jnp.asarray(some_broken())}
    temperature = dict(zip(("log_scale", "bias"), scalars, strict=False))
    outputs = {"image": a, "temperature": {"image-text": temperature}}

    def loss(embeddings, text):
        batch = rest | {"text": jnp.asarray(text)}
        return objective.loss(outputs | {"text": embeddings}, batch, batch)[0]

    each = [loss(several[:, i], text[:, i]) for i in range(3)]
    np.testing.assert_allclose(loss(several, text), np.mean(each), rtol=1e-6)
    assert len(set(map(float, each))) == 3


@pytest.mark.parametrize("positives", ["own", "label", "text"])
def test_what_matches_what_comes_from_the_batch(positives):
    settings = config.Contrastive(form="dense", positives=positives)
    objective = ContrastivePair(settings, Vocabulary(100, 0, -1, ()))
    a, b, log_scale = map(jnp.asarray, arguments("softmax"))
    text = np.zeros((40, 5), np.int32)
    text[:, 2] = IDS % 4
    batch = {"text": jnp.asarray(text), "label": jnp.asarray(IDS), "valid": jnp.ones(40, bool)}
    temperature = {"image-text": {"log_scale": log_scale}}
    outputs = {"image": a, "text": b, "temperature": temperature}
    loss, _ = objective.loss(outputs, batch, batch)
    ids = {"own": np.arange(40), "label": IDS, "text": IDS % 4}[positives]
    want = numpy_loss("softmax", ids, np.ones(40, bool), *arguments("softmax", dtype=np.float64))
    np.testing.assert_allclose(loss, want, rtol=1e-5)
