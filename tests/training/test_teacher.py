"""A teacher beside the student, and objectives that begin late, on a model of three numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from multimodal.experiment import Task
from multimodal.training.state import TrainState
from multimodal.training.step import StepSettings, make_step, read_by, teach

RATE, DECAY, AVERAGE = 0.1, 0.5, 0.5
START = {"body": 2.0, "head": 3.0, "spare": 5.0}
EMA = {"body": 1.0, "head": 0.5, "spare": 4.0}
X = np.array([1.0, 2.0, -1.0, 0.5], np.float32)


class Model:
    """`out` = body x; `deep` = body x + head for what the batch calls `view`."""

    largest = {}

    def bind(self, params):
        def call(batch, key=None):
            outputs = {"weights": {"head": params["head"]}}
            if "x" in batch:
                outputs["out"] = params["body"] * batch["x"]
            if "view" in batch:
                outputs["deep"] = params["body"] * batch["view"] + params["head"]
            return outputs

        return call


class Now:
    weight, joint, reads = 1.0, False, ("out",)

    def prepare(self, batch, key):
        return batch

    def loss(self, outputs, batch, whole):
        return outputs["out"].sum() / len(whole["x"]), {}


class Late:
    """The mean of (deep - the teacher's deep, less its mean over the batch) ** 2 * its head."""

    weight, joint, reads = 2.0, False, ("deep", "weights")
    teacher_sees, teacher_reads = ("view",), ("deep",)

    def prepare(self, batch, key):
        return batch | {"view": batch["x"] + 1}

    def loss(self, outputs, batch, whole):
        target = batch["teacher/deep"] - whole["teacher/deep"].mean()
        error = (outputs["deep"] - target) ** 2 * outputs["teacher/weights"]["head"]
        return error.sum() / len(whole["x"]), {}


def decayed():
    return optax.chain(optax.add_decayed_weights(DECAY), optax.sgd(RATE))


def taken(now, later=None, accumulate=1):
    """The state and the figures after one step."""
    arrays = [{k: jnp.float32(v) for k, v in tree.items()} for tree in (START, EMA)]
    state = TrainState(jnp.int32(100), arrays[0], decayed().init(arrays[0]), arrays[1])
    settings = StepSettings(
        decayed(), lambda _: RATE, frozenset(START), seed=0, accumulate=accumulate, ema=AVERAGE
    )
    step = jax.jit(make_step(Model(), now, settings, later))
    batch = {"x": jnp.asarray(X)[:, None], "valid": jnp.ones(4, bool)}
    return step(state, batch)


def by_hand():
    """Gradient by body and head of Now + 2 Late; the teacher is a constant."""
    view = X.astype(np.float64) + 1
    said = EMA["body"] * view + EMA["head"]
    error = START["body"] * view + START["head"] - (said - said.mean())
    common = 2.0 * 2 * error * EMA["head"]
    loss = START["body"] * X.mean() + 2 * np.mean(error**2 * EMA["head"])
    return loss, {"body": X.mean() + np.mean(common * view), "head": np.mean(common), "spare": 0.0}


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_student_learns_from_the_teacher_and_the_teacher_follows_the_student(accumulate):
    state, figures = taken({"now": Now(), "late": Late()}, accumulate=accumulate)
    loss, gradient = by_hand()
    np.testing.assert_allclose(figures["loss"], loss, rtol=1e-6)
    for path, start in START.items():
        wanted = start - RATE * (gradient[path] + DECAY * start)
        np.testing.assert_allclose(state.params[path], wanted, rtol=1e-5)
        average = AVERAGE * EMA[path] + (1 - AVERAGE) * wanted
        np.testing.assert_allclose(state.ema[path], average, rtol=1e-5)


def test_what_waits_for_a_late_objective_is_not_worn_down():
    state, figures = taken({"now": Now()}, {"late": Late()})
    assert "late" not in figures
    assert state.params["head"] == START["head"]
    # Used by nobody ever, so that decay is all that happens to it, as without late objectives.
    np.testing.assert_allclose(state.params["spare"], START["spare"] * (1 - RATE * DECAY))
    wanted = START["body"] - RATE * (X.mean() + DECAY * START["body"])
    np.testing.assert_allclose(state.params["body"], wanted, rtol=1e-6)


def test_which_parameters_a_loss_reads():
    params = {path: jax.ShapeDtypeStruct((), np.float32) for path in START}
    batch = {
        "x": jax.ShapeDtypeStruct((4, 1), np.float32),
        "valid": jax.ShapeDtypeStruct((4,), bool),
    }
    assert read_by(Model(), {"now": Now()}, params, batch) == {"body"}
    assert read_by(Model(), {"now": Now(), "late": Late()}, params, batch) == {"body", "head"}


def test_without_a_teacher_nothing_is_asked():
    assert teach(Model(), {"now": Now()}, None, {}, 1) == ({}, {})


def test_a_step_number_alone_says_which_objectives_count():
    task = Task(None, {}, 1.0, ((0, "early"), (8, "late")), {})
    assert [task.step_at(n) for n in (9, 0, 7, 8, 0)] == ["late", "early", "early", "late", "early"]
    assert task.step == "late"
