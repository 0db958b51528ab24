"""Between two runs: their parameters, the picture and the command."""

import json
import re
import xml.etree.ElementTree as xml
from dataclasses import replace as changed

import jax
import numpy as np
import pytest
from PIL import Image

from multimodal import config, interpolate
from multimodal.checkpoint.saved import open_saved
from multimodal.config import Lora, Rule, Start
from multimodal.errors import UserError
from multimodal.evaluate import restore
from multimodal.finetune.interpolation import check_same, curve
from multimodal.finetune.interpolation import interpolate as between
from multimodal.report.details import load
from tests.finetune.test_start import SMALL, save
from tests.toy import build, replace


def test_parameters_lie_on_a_line():
    rng = np.random.default_rng(0)
    a, b = ({"x": rng.normal(size=(3, 4)), "y/z": rng.normal(size=())} for _ in range(2))
    for alpha in (0.0, 0.3, 1.0):
        for path, x in between(a, b, alpha).items():
            np.testing.assert_allclose(x, a[path] + alpha * (b[path] - a[path]), rtol=1e-5)


@pytest.mark.parametrize(
    ("end", "told"),
    [
        ({"x": np.zeros(3)}, "RUN has no parameter y"),
        ({"x": np.zeros(3), "y": np.zeros(2)}, "y has shape"),
    ],
)
def test_models_of_another_form_are_refused(end, told):
    with pytest.raises(UserError, match=told):
        check_same({"x": np.zeros(3), "y": np.zeros(3)}, end, ("START", "RUN"))


def test_the_picture_has_every_point_where_it_belongs():
    alphas, lines = [0.0, 0.5, 1.0], {"old": [0.8, 0.7, 0.2], "new": [0.1, 0.4, 0.5]}
    root = xml.fromstring(curve(alphas, lines))
    space = "{http://www.w3.org/2000/svg}"
    points = [(float(c.get("cx")), float(c.get("cy"))) for c in root.iter(f"{space}circle")]
    ticks = {t.text: t for t in root.iter(f"{space}text")}
    at = lambda text, axis: float(ticks[text].get(axis))  # noqa: E731
    zero, top = at("0 %", "y"), at("80 %", "y")
    for (x, y), alpha, value in zip(points, alphas * 2, lines["old"] + lines["new"], strict=True):
        assert x == pytest.approx(at("0", "x") + alpha * (at("1", "x") - at("0", "x")), abs=0.1)
        assert y == pytest.approx(zero + value / 0.8 * (top - zero), abs=0.1)
    assert {"old", "new"} < ticks.keys()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run and one that began with it and adapted it, both with an evaluator."""
    folder = tmp_path_factory.mktemp("runs")
    for number in range(6):
        (folder / "data" / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        picture = np.random.default_rng(number).integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(picture).save(folder / "data" / "ab"[number % 2] / f"{number}.png")
    data = config.Data(config.Folder("data"), {"image": "image", "label": "label"})
    judge = config.ZeroShot(data, ("a", "b"), batch_size=8)
    settings = replace(SMALL, evaluators={"letters": judge}, data_dir=str(folder))
    rng, found = np.random.default_rng(0), {}
    for name, lora in (("before", None), ("after", Lora(("towers/.*/kernel",), rank=2))):
        start = Start(str(folder / "before")) if lora else None
        rules = (Rule("lora/towers/text/.*", 0.5),) if lora else ()
        run = build(replace(changed(settings, lora=lora, start=start), optimizer__rules=rules))
        shapes = run.model.shapes()
        params = {path: rng.normal(0, 0.2, x.shape).astype("f4") for path, x in shapes.items()}
        (folder / name).mkdir()
        save(folder / name, run, {"params": params})
        found[name] = jax.device_get(run.model.plain(params))
    return folder, found


@pytest.fixture
def command(monkeypatch):
    """Runs the command with these flags."""

    def call(**given):
        known = {"start": "", "alphas": "0,1", "evaluator": [], "json": "", "svg": "", "out": ""}
        flags = type("Flags", (), known | given)
        flags.__class_getitem__ = classmethod(
            lambda cls, name: type("Flag", (), {"value": getattr(cls, name)})
        )
        workdir = given.pop("workdir")
        monkeypatch.setattr(interpolate, "workdir_from_flags", lambda: workdir)
        monkeypatch.setattr(interpolate, "join", lambda: None)
        monkeypatch.setattr(interpolate, "FLAGS", flags)
        interpolate.main([])

    return call


def test_a_curve_from_what_the_run_began_with_to_what_it_became(runs, command, tmp_path):
    folder, found = runs
    command(workdir=folder / "after", json=str(tmp_path / "c.json"), svg=str(tmp_path / "c.svg"))
    rows = json.loads((tmp_path / "c.json").read_text())
    assert [row["alpha"] for row in rows] == [0.0, 1.0]
    for row, name in zip(rows, ("before", "after"), strict=True):
        experiment, params, step = restore(folder / name)
        for path, x in params.items():
            np.testing.assert_allclose(x, found[name][path], atol=1e-6)
        with jax.set_mesh(experiment.mesh):
            wanted = interpolate.run_evaluators(experiment, params, step, None, ["letters"])
        assert row == {"alpha": row["alpha"]} | wanted
    assert (tmp_path / "c.svg").read_text().count("<circle") == 2


def test_the_model_at_one_point_is_a_run_of_its_own(runs, command, tmp_path):
    folder, found = runs
    command(workdir=folder / "after", alphas="0.25", out=str(tmp_path / "mixed"))
    saved = open_saved(tmp_path / "mixed")
    assert saved.config.lora is None and saved.config.start is None and saved.step == 5
    told = f"interpolated by 0.25 from {folder / 'before'} to {folder / 'after'}"
    assert load(tmp_path / "mixed")["facts"] == {"interpolated": told}
    restore(tmp_path / "mixed")  # nor has it rules for what was merged
    for path, x in saved.params().items():
        wanted = 0.75 * found["before"][path] + 0.25 * found["after"][path]
        np.testing.assert_allclose(x, wanted, atol=1e-6, err_msg=path)
    assert config.from_dict(config.Config, json.loads((tmp_path / "mixed/config.json").read_text()))
    with pytest.raises(UserError, match="mixed holds a run already"):
        command(workdir=folder / "after", alphas="0.25", out=str(tmp_path / "mixed"))


@pytest.mark.parametrize(
    ("name", "flags", "told"),
    [
        ("before", {}, "began with no checkpoint; name the other end by --start"),
        ("after", {"alphas": "0,x"}, "--alphas=0,x: numbers"),
        ("after", {"alphas": "0,1.5"}, "1.5 is not from 0 to 1"),
        ("after", {"out": "x"}, "--out=x is for one model"),
        ("after", {"json": "/nowhere/x.json"}, "there is no such folder"),
        ("after", {"evaluator": ["letter"]}, "did you mean 'letters'"),
        ("after", {"start": "/nowhere"}, "no run folder /nowhere"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(runs, command, name, flags, told):
    with pytest.raises(UserError, match=re.escape(told)) as caught:
        command(workdir=runs[0] / name, **flags)
    assert "\n" not in str(caught.value)
