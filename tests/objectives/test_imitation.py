"""Agreement with a trained teacher, against float64."""

import jax
import numpy as np
import pytest

from multimodal import config
from multimodal.objectives.imitation import Distillation, teacher_key
from multimodal.parallel.mesh import make_mesh

BATCH = 8


def unit(rng, width: int) -> np.ndarray:
    x = rng.normal(size=(BATCH, width))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype("f4")


def draw(seed: int = 0, widths: tuple[int, int] = (6, 6), broken: int = 0, **settings):
    """An objective, its student's outputs and a batch with what its teacher says."""
    rng, s = np.random.default_rng(seed), config.Distillation("RUN", **settings)
    outputs = {name: unit(rng, widths[0]) for name in ("image", "text")}
    outputs["temperature"] = {"image-text": {"log_scale": np.float32(1.5)}}
    batch = {teacher_key(s, name): unit(rng, widths[1]) for name in ("image", "text")}
    batch[teacher_key(s, "log_scale")] = np.full(BATCH, 2.0, "f4")
    batch["valid"] = np.arange(BATCH) < BATCH - broken
    return Distillation(s, None), outputs, batch


def divergence(outputs: dict, batch: dict) -> float:
    """Mean KL(teacher || student) of both directions over valid examples, float64."""
    valid, found = batch["valid"], []
    theirs = [batch[f"teacher/RUN/{name}"][valid].astype("f8") for name in ("image", "text")]
    ours = [outputs[name][valid].astype("f8") for name in ("image", "text")]

    def softmax(a, b, scale):
        e = np.exp(np.exp(scale) * a @ b.T)
        return e / e.sum(1, keepdims=True)

    for order in (1, -1):
        p, q = softmax(*theirs[::order], 2.0), softmax(*ours[::order], 1.5)
        found.append((p * np.log(p / q)).sum(1).mean())
    return sum(found) / 2


@pytest.mark.parametrize(("widths", "broken"), [((6, 6), 0), ((4, 9), 0), ((6, 6), 3)])
def test_shares_of_the_batch(widths, broken):
    objective, outputs, batch = draw(widths=widths, broken=broken)
    loss, figures = jax.jit(objective.loss)(outputs, batch, batch)
    assert loss == pytest.approx(divergence(outputs, batch), rel=1e-5)
    assert figures["logits"] == loss


def test_embeddings_and_weights_of_both():
    objective, outputs, batch = draw(broken=2, logits=0.5, features=3.0)
    loss, figures = objective.loss(outputs, batch, batch)
    valid = batch["valid"]
    apart = [
        np.square(outputs[n][valid] - batch[f"teacher/RUN/{n}"][valid]).sum(1).mean()
        for n in ("image", "text")
    ]
    assert figures["features"] == pytest.approx(sum(apart) / 2, rel=1e-5)
    wanted = 0.5 * divergence(outputs, batch) + 3.0 * sum(apart) / 2
    assert loss == pytest.approx(wanted, rel=1e-5)


def test_a_student_like_its_teacher_has_nothing_to_learn():
    objective, outputs, batch = draw(features=1.0)
    like = outputs | {name: batch[f"teacher/RUN/{name}"] for name in ("image", "text")}
    like["temperature"] = {"image-text": {"log_scale": np.float32(2.0)}}
    loss, gradient = jax.value_and_grad(lambda o: objective.loss(o, batch, batch)[0])(like)
    assert abs(loss) < 1e-6
    assert max(np.abs(x).max() for x in jax.tree.leaves(gradient)) < 1e-6


def test_on_a_mesh_it_is_the_same():
    objective, outputs, batch = draw(broken=1, features=1.0)
    wanted = jax.grad(lambda o: objective.loss(o, batch, batch)[0])(outputs)
    with jax.set_mesh(make_mesh({"data": 2, "fsdp": 2}, jax.devices()[:4])):
        found = jax.jit(jax.grad(lambda o: objective.loss(o, batch, batch)[0]))(outputs)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, wanted)
