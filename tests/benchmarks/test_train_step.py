"""Our side of the comparison, where its time goes, and what the command refuses."""

import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

from benchmarks import ours, profile, train_step
from benchmarks.turns import Child, SideError
from multimodal.interop.convert import import_weights


@pytest.fixture(scope="module")
def side():
    return ours.Side("tiny", 4, {"depth": 1, "scan": False})


def test_our_side_trains_and_hands_over_its_weights(side, tmp_path):
    side.export(str(tmp_path / "a.safetensors"))
    imported = import_weights(
        "huggingface_clip", load_file(tmp_path / "a.safetensors"), side.run.model
    )
    for path, leaf in side.state.params.items():
        np.testing.assert_array_equal(imported[path], leaf)
    told = side.steps(4)
    assert told["loss"][-1] < told["loss"][0] and min(told["seconds"]) > 0
    assert int(side.state.step) == 4


def test_the_profile_names_parts_of_the_model():
    # In a process of its own: jax's profiler crashes where libtpu was loaded for its compiler.
    stacks = {"depth": 1, "scan": False}
    child = Child("benchmarks.ours", {"shape": "tiny", "batch_size": 4, "stacks": stacks})
    told = child.ask("profile", count=1)
    child.close()
    rows = [[c.strip() for c in line.split("|")[1:-1]] for line in told.splitlines()]
    products = {(row[0], row[1]): float(row[2]) for row in rows[2:]}
    assert products["forward", "models/layers.py Linear.__call__"] > 0
    assert products["backward", "models/layers.py Linear.__call__"] > 0
    assert rows[-1][1] == "all" and rows[-1][-1] == "100.0%"
    assert sum(float(row[-1].strip("%")) for row in rows[2:-1]) == pytest.approx(100, abs=1)


def test_a_profile_adds_up_what_belongs_together(side):
    program = side.step.as_text()
    known = profile.parts(program)
    of = lambda phase: next(name for name, part in known.items() if part.phase == phase)  # noqa: E731
    events = [(of("forward"), 0.003), (of("forward"), 0.001), (of("update"), 0.004), ("while.1", 9)]
    rows = profile.summary([profile.Event(*e) for e in events], program, 2).splitlines()
    shares = [row.split("|")[-2].strip() for row in rows[2:]]
    assert shares == ["50.0%", "50.0%", "100.0%"]


def test_sides_that_differ_are_found_out():
    train_step.agree([3.0, 2.0], [3.001, 2.0])
    with pytest.raises(SideError, match="do not train the same"):
        train_step.agree([3.0, 2.0], [3.0, 2.1])
    with pytest.raises(SideError, match="do not train the same"):
        train_step.agree([3.0], [float("nan")])


def test_without_torch_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["train_step"])
    with pytest.raises(SystemExit, match="pip install torch==2.13.0 transformers"):
        train_step.main()


def test_an_unknown_shape_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train_step", "--shapes=b31"])
    with pytest.raises(SystemExit):
        train_step.main()
    assert "--shapes=b31: there are tiny, b32" in capsys.readouterr().err
