"""Smoothed targets of the softmax loss: every form against plain NumPy."""

import jax
import numpy as np
import pytest

from multimodal.parallel.mesh import make_mesh
from tests.objectives.test_contrastive import arguments, evaluate, some_broken

IDS = np.random.default_rng(1).integers(0, 9, 40).astype(np.int32)


def numpy_loss(smoothing, ids, valid, a, b, log_scale):
    """Cross-entropy against explicit targets, over the rows that take part."""
    a, b, ids = a[valid], b[valid], ids[valid]
    same = ids[:, None] == ids
    target = (1 - smoothing) * same / same.sum(1, keepdims=True) + smoothing / len(ids)
    logits, total = np.exp(log_scale) * a @ b.T, 0.0
    for way in (logits, logits.T):
        total -= (target * (way - np.log(np.exp(way).sum(1, keepdims=True)))).sum()
    return total / 2 / len(ids)


@pytest.mark.parametrize("ids", [None, IDS], ids=["own", "groups"])
@pytest.mark.parametrize("form", ["dense", "chunked", "ring"])
def test_every_form_equals_numpy_and_its_finite_differences(form, ids):
    args, valid = arguments("softmax", dtype=np.float64), some_broken()
    told = {"valid": valid, "ids": ids, "smoothing": 0.3, "form": form, "chunk": 3}
    with jax.enable_x64(True):
        loss, grads = evaluate("softmax", args, make_mesh({"data": 4, "fsdp": 2}), **told)
    known = (0.3, np.arange(40) if ids is None else ids, valid)
    np.testing.assert_allclose(loss, numpy_loss(*known, *args), rtol=1e-12)
    for i, grad in enumerate(grads):
        direction = np.random.default_rng(i).normal(size=np.shape(args[i]))
        ends = []
        for step in (1e-5, -1e-5):
            moved = [x + step * direction if i == j else x for j, x in enumerate(args)]
            ends.append(numpy_loss(*known, *moved))
        slope = (ends[0] - ends[1]) / 2e-5
        np.testing.assert_allclose(np.sum(grad * direction), slope, rtol=1e-6, atol=1e-9)


def test_broken_slots_may_hold_anything():
    args, valid = arguments("softmax"), some_broken()
    odd = [np.where(valid[:, None], x, np.nan) if x.ndim else x for x in args]
    for form in ("dense", "ring"):
        told = {"valid": valid, "smoothing": 0.3, "form": form, "chunk": 3}
        want, got = (evaluate("softmax", x, make_mesh({"data": 8}), **told) for x in (args, odd))
        np.testing.assert_allclose(got[0], want[0], rtol=1e-6)
        for g, w in zip(got[1], want[1], strict=True):
            np.testing.assert_allclose(g, w, rtol=0, atol=1e-6 * np.abs(w).max())
