"""A trained model that a run learns from."""

import re
import shutil

import jax
import numpy as np
import pytest

from multimodal.config import Distillation
from multimodal.errors import UserError
from multimodal.evaluate import restore
from multimodal.parallel.processes import to_global
from multimodal.recipe import check
from tests.finetune.test_start import SMALL, save
from tests.toy import build, host_batch, replace

WIDE = {f"model__towers__{tower}__transformer__width": 24 for tower in ("image", "text")}
SETTINGS = replace(SMALL, batch_size=8)


def learning(where, settings=SETTINGS, **options):
    """A run whose only signal is a teacher."""
    return replace(
        settings, tasks__pairs__objectives={"teacher": Distillation(str(where), **options)}
    )


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """The folder of a wider model, with another mean, and its parameters."""
    run = build(replace(SETTINGS, model__embed=48, preprocessing__mean=(0.4, 0.5, 0.6), **WIDE))
    rng, shapes = np.random.default_rng(0), run.model.shapes()
    params = {path: rng.normal(0, 0.3, x.shape).astype("f4") for path, x in shapes.items()}
    where = tmp_path_factory.mktemp("teacher")
    save(where, run, {"params": params})
    return where, run, params


def test_a_step_sees_what_the_teacher_says_and_learns_from_it(large):
    where, before, params = large
    settings = learning(where)
    check(settings)
    run = build(replace(settings, accumulate=2), devices=4, data=2, fsdp=2)
    host, (task,) = host_batch(settings, broken=1), run.tasks.values()
    with jax.set_mesh(run.mesh):
        batch = task.taught(to_global(host, run.mesh))
        shapes = run.abstract_batch()
        assert {k: (x.shape, x.dtype) for k, x in shapes.items()} == {
            k: (x.shape, x.dtype) for k, x in batch.items() if k in shapes
        }
        said = jax.jit(lambda params: before.model.bind(params)(host))(params)
        for name in ("image", "text"):
            np.testing.assert_allclose(batch[f"teacher/{where}/{name}"], said[name], atol=1e-5)
        scale = params["temperature/image-text/scale"]
        np.testing.assert_allclose(batch[f"teacher/{where}/log_scale"], scale, rtol=1e-6)
        state, losses = run.initialise(), []
        for _ in range(8):
            state, figures = task.step(state, batch)
            losses.append(float(figures["loss"]))
    assert losses[-1] < 0.9 * losses[0], losses
    assert run.model_flops() > build(SETTINGS).model_flops()


def test_what_has_learnt_needs_its_teacher_no_more(large, tmp_path):
    where = shutil.copytree(large[0], tmp_path / "teacher")
    run = build(learning(where))
    params = {path: np.zeros(x.shape, "f4") for path, x in run.model.shapes().items()}
    save(tmp_path / "run", run, {"params": params})
    shutil.rmtree(where)
    assert restore(tmp_path / "run")[2] == 5


@pytest.mark.parametrize(
    ("settings", "options", "told"),
    [
        (SETTINGS, {"features": 1.0}, "features: {} has embed=48 but config.model.embed=32"),
        (SETTINGS, {"step": 3}, "teacher: {} holds no checkpoint of step 3"),
        (
            replace(SETTINGS, preprocessing__lowercase=False),
            {},
            "teacher: {} reads other input than this run: config.preprocessing.lowercase=False",
        ),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused(large, settings, options, told):
    told = "config.tasks.pairs.objectives.teacher." + told.format(large[0])
    with pytest.raises(UserError, match=re.escape(told)) as caught:
        build(learning(large[0], settings, **options))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"logits": 0.0}, "logits and features are both 0"),
        ({"logits": -1.0}, "logits=-1.0: may not be below 0"),
        ({"pair": ("image", "sound")}, "no tower 'sound'"),
    ],
)
def test_settings_that_cannot_be(options, told):
    with pytest.raises(UserError, match=told):
        check(learning("RUN", **options))
