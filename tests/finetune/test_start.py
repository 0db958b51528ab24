"""A new run that begins with the parameters of another run's checkpoint."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from multimodal import config
from multimodal.checkpoint.bundle import Checkpoints
from multimodal.config import Start
from multimodal.data.tokenizers import describe_tokenizer, load_tokenizer
from multimodal.errors import UserError
from multimodal.finetune.agreement import Meaning
from multimodal.finetune.start import find, rename
from multimodal.models.build import build as build_model
from multimodal.train import train
from tests.commands import caching_compilations, finish, start
from tests.toy import build, replace, toy_config

BLOCK = {"width": 16, "depth": 1, "heads": 2, "mlp": 16}
SMALL = replace(
    toy_config(steps=1, batch_size=4),
    **{f"model__towers__{tower}__transformer__{name}": value
       for tower in ("image", "text") for name, value in BLOCK.items()},
)  # fmt: skip
IMAGE = "towers/image/.*"


@pytest.fixture(scope="module")
def new():
    """The new run, on two axes of a mesh and with a moving average, and its first state."""
    experiment = build(replace(SMALL, ema=0.5), devices=4, data=2, fsdp=2)
    with jax.set_mesh(experiment.mesh):
        return experiment, jax.device_get(experiment.initialise())


def save(workdir, experiment, state, step=5, files=None):
    checkpoints = Checkpoints(workdir / "checkpoints", config.Checkpoints())
    arrays = jax.tree.map(np.asarray, state)
    checkpoints.save(step, arrays, experiment.meta({}), force=True, files=files)
    checkpoints.close()
    return workdir


@pytest.fixture(scope="module")
def then(new, tmp_path_factory):
    """Folder of a run and what it averaged, which is unlike its parameters."""
    experiment, state = new
    averaged = {path: x + 1 for path, x in state.params.items()}
    state = dataclasses.replace(state, params={p: x + 2 for p, x in averaged.items()}, ema=averaged)
    return save(tmp_path_factory.mktemp("start") / "before", experiment, state), averaged


def begin(new, where, **options):
    """The new run's state after loading what these settings name."""
    settings = replace(new[0].config, start=Start(str(where), **options))
    experiment = dataclasses.replace(new[0], config=settings)
    with jax.set_mesh(experiment.mesh):
        return experiment.beginning().load(experiment.initialise())


def check(settings, where, shapes, **options):
    """The checks alone, for a run of these settings."""
    p = settings.preprocessing
    told = describe_tokenizer(load_tokenizer(p.tokenizer, p.pad_id))
    now = Meaning(settings.model, p, told)
    return find(Start(**{"checkpoint": str(where)} | options), now, shapes)


def test_all_parameters_of_the_average_sharded_as_the_new_run_is(new, then):
    state = begin(new, then[0])
    for path, leaf in state.params.items():
        assert (np.asarray(leaf) == then[1][path]).all(), path
        assert leaf.sharding == new[0].shardings.params[path]
        assert (np.asarray(state.ema[path]) == then[1][path]).all(), path
        assert state.ema[path].sharding == leaf.sharding
    assert any(not leaf.is_fully_replicated for leaf in state.params.values())
    assert int(state.step) == 0
    assert all((np.asarray(leaf) == 0).all() for leaf in jax.tree.leaves(state.opt_state))
    jax.block_until_ready(jax.jit(lambda s: s, donate_argnums=0)(state))


def test_a_part_and_one_tensor_for_two_parameters(new, then):
    renames = (("towers/text/final_norm/(.*)", r"towers/image/final_norm/\1"),)
    state = begin(new, then[0], only=("towers/.*/final_norm/.*",), rename=renames)
    for path, leaf in state.params.items():
        loaded = "/final_norm/" in path
        source = path.replace("/text/", "/image/") if loaded else path
        wanted = (then[1] if loaded else new[1].params)[source]
        assert (np.asarray(leaf) == wanted).all(), path
        assert (np.asarray(state.ema[path]) == wanted).all(), path
    jax.block_until_ready(jax.jit(lambda s: s, donate_argnums=0)(state))


def test_a_tower_from_a_model_of_another_kind(new, tmp_path):
    """As locked-image tuning takes it; that run kept no average."""
    tower = replace(SMALL.model.towers["image"], pooler="none", projection="none")
    decoder = dataclasses.replace(tower.transformer)
    other = replace(toy_config("prefix_lm", batch_size=4), model__image=tower,
                    model__decoder=decoder)  # fmt: skip
    experiment = build(other)
    rng = np.random.default_rng(0)
    params = {
        p: rng.normal(size=x.shape).astype("f4") for p, x in experiment.model.shapes().items()
    }
    save(tmp_path, experiment, {"params": params})
    options = {
        "only": ("towers/image/(?!pooler|projection).*",),
        "rename": (("towers/(.*)", r"\1"),),
    }
    state = begin(new, tmp_path, **options, accept=("pooler",))
    loaded = [p for p in state.params if p.removeprefix("towers/") in params]
    assert "towers/image/positions/position" in loaded
    for path, leaf in state.params.items():
        wanted = params[path.removeprefix("towers/")] if path in loaded else new[1].params[path]
        assert (np.asarray(leaf) == wanted).all(), path
    with pytest.raises(UserError, match=r"towers.image.pooler='map' but there 'none'"):
        begin(new, tmp_path, **options)


def test_paths_and_where_they_come_from():
    paths = ["a/x", "a/y", "b/x", "c"]
    assert rename(Start("run"), paths) == {p: p for p in paths}
    assert rename(Start("run", only=("a/.*", "c")), paths) == {"a/x": "a/x", "a/y": "a/y", "c": "c"}
    renames = (("a/x", "first"), (r"(.)/(.)", r"\2/\1"))
    wanted = {"a/x": "first", "a/y": "y/a", "b/x": "x/b", "c": "c"}
    assert rename(Start("run", rename=renames), paths) == wanted


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"checkpoint": "/nowhere"}, "no run folder /nowhere"),
        ({"step": 3}, "no checkpoint of step 3; steps: 5"),
        ({"only": ("tower/image/.*",)}, "only: 'tower/image/.*' matches no parameter of this run"),
        ({"only": ("(",)}, r"only: '\(' is no regular expression"),
        (
            {"only": (IMAGE,), "rename": (("towers/text/.*", "x"),)},
            "rename: 'towers/text/.*' matches",
        ),
        ({"rename": ((".*", r"\3"),)}, r"rename: '.\*' to"),
        (
            {"only": (".*/image/final_norm/.*",), "rename": ((".*/image/(.*)", r"towers/img/\1"),)},
            "no parameter for towers/image/final_norm/bias .there towers/img/final_norm/bias.; the "
            "nearest is towers/image/final_norm/bias",
        ),
        ({"accept": ("menu",)}, "accept: 'menu'.*"),
    ],
)
def test_what_does_not_fit_is_one_line(new, then, options, told):
    with pytest.raises(UserError, match=told) as caught:
        check(SMALL, then[0], new[1].params, **options)
    assert "\n" not in str(caught.value)


def test_a_parameter_of_another_shape_is_named(new, then):
    def changed(**changes):
        settings = replace(SMALL, **changes)
        return (
            settings,
            then[0],
            build_model(settings.model, settings.preprocessing, "float32").shapes(),
        )

    with pytest.raises(
        UserError,
        match=r"towers/image/projection/kernel has shape \(16, 48\) but \(16, 32\) in .*before",
    ):
        check(*changed(model__embed=48))
    wider = changed(model__towers__text__vocab_size=300)
    with pytest.raises(UserError, match=r"table has shape \(300, 16\) but \(260, 16\)"):
        check(*wider)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"preprocessing__mean": (0.1, 0.2, 0.3)}, r"mean=\(0.1, 0.2, 0.3\) but there \(0.5, 0.5"),
        ({"preprocessing__std": (0.1, 0.2, 0.3)}, r"preprocessing.std="),
        (
            {"preprocessing__image_size": 40, "model__towers__image__image_size": 40},
            "image_size=40 but there 32",
        ),
        ({"preprocessing__resize": "squash"}, "resize='squash' but there 'crop'"),
        ({"preprocessing__lowercase": False}, "lowercase=False but there True"),
        (
            {"preprocessing__length": 16, "model__towers__text__length": 16},
            "length=16 but there 32",
        ),
        (
            {"preprocessing__pad_id": 3, "model__towers__text__pad_id": 3},
            "pad_id=3 but there 0",
        ),
        (
            {"model__towers__image__transformer__activation": "relu"},
            "towers.image.transformer.activation='relu' but there 'gelu_tanh'",
        ),
        ({"model__towers__image__pooler": "mean"}, "towers.image.pooler='mean' but there 'map'"),
    ],
)
def test_other_input_than_the_checkpoints_is_refused_by_name(new, then, changes, told):
    with pytest.raises(UserError, match=f"was trained otherwise: .*{told}.*config.start.accept="):
        check(replace(SMALL, **changes), then[0], new[1].params)


def test_what_is_meant_may_be_accepted(new, then):
    changes = {"preprocessing__mean": (0.1, 0.2, 0.3), "preprocessing__lowercase": False}
    settings, shapes = replace(SMALL, **changes), new[1].params
    with pytest.raises(UserError, match=r"otherwise: [^;]*lowercase=False[^;]*; set"):
        check(settings, then[0], shapes, accept=("mean",))
    assert check(settings, then[0], shapes, accept=("mean", "lowercase")).step == 5
    # Of an image tower alone, texts are of no concern.
    assert check(settings, then[0], shapes, only=(IMAGE,), accept=("mean",)).step == 5


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Eight pictures with captions, as the task of the small run."""
    folder = tmp_path_factory.mktemp("pictures")
    rng, lines = np.random.default_rng(0), ["file,text"]
    for i in range(8):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(folder / f"{i}.png")
        lines.append(f"{i}.png,caption {i}")
    (folder / "table.csv").write_text("\n".join(lines))
    return replace(
        SMALL,
        tasks__pairs__data=config.Data(config.Folder(str(folder))),
        optimizer__learning_rate=1e-12,
    )


def test_a_run_trains_on_from_there_and_resumes_without_it(then, pictures, tmp_path):
    before, workdir = shutil.copytree(then[0], tmp_path / "before"), tmp_path / "run"
    settings = replace(pictures, start=Start(str(before)))
    train(settings, workdir, jax.devices()[:1])
    shutil.rmtree(before)
    train(settings, workdir, jax.devices()[:1])
    for path, leaf in Checkpoints(workdir / "checkpoints").restore_params(1).items():
        assert np.asarray(leaf) == pytest.approx(then[1][path], abs=1e-9)
    with pytest.raises(UserError, match="config.start.* was .* and is now"):
        train(replace(settings, start=Start("other")), workdir, jax.devices()[:1])


def test_the_train_command_refuses_in_one_line_before_it_compiles(then, pictures, tmp_path):
    same = Start(str(then[0]), rename=(("(towers/.*)", r"\1"),))
    settings = replace(pictures, start=same, preprocessing__mean=(0.0, 0.0, 0.0))
    (tmp_path / "recipe.json").write_text(json.dumps(config.to_dict(settings)))
    code, out, err = finish(
        start("train", f"--config={tmp_path / 'recipe.json'}", f"--workdir={tmp_path / 'run'}",
              **caching_compilations(tmp_path / "compiled"))
    )  # fmt: skip
    assert code == 2 and out == ""
    assert err.startswith("error: config.start: the checkpoint ") and err.count("\n") == 1
    assert "config.preprocessing.mean=(0.0, 0.0, 0.0) but there (0.5, 0.5, 0.5)" in err
    assert not (tmp_path / "compiled").exists()
