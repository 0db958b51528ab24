"""Memory, traffic and programs of the ring losses as devices and batch grow."""

import json
import math
import sys
import xml.etree.ElementTree as ElementTree

import pytest

from benchmarks import scaling


@pytest.fixture(scope="module")
def few():
    """32 examples a device on 8 and on 256 devices, by program."""
    return {
        program: [scaling.measure(program, scaling.SLICES[n], 32 * n) for n in (8, 256)]
        for program in ("sigmoid", "softmax")
    }


@pytest.mark.parametrize("program", ["sigmoid", "softmax"])
def test_a_device_holds_the_same_however_many_there_are(few, program):
    small, large = few[program]
    assert (small.devices, large.devices) == (8, 256)
    assert large.temporaries <= 1.02 * small.temporaries
    assert large.memory <= 1.02 * small.memory


@pytest.mark.parametrize("program", ["sigmoid", "softmax"])
def test_the_ring_is_a_loop(few, program):
    small, large = few[program]
    assert 100 < large.instructions <= 1.02 * small.instructions


@pytest.mark.parametrize("program, times", [("sigmoid", 2), ("softmax", 3)])
def test_what_is_sent_is_the_other_tower_and_its_gradient(few, program, times):
    """Softmax takes two walks, the first without gradients."""
    for point in few[program]:
        assert point.wire == pytest.approx(times * point.batch * scaling.EMBED * 4, rel=0.02)


def test_the_step_is_one_of_parameters_in_parts():
    function, (state, batch), mesh = scaling.step(256, scaling.devices_of(scaling.SLICES[8]))
    kernel = state.params["towers/image/stack/blocks/mlp/up/kernel"]
    assert math.prod(kernel.sharding.shard_shape(kernel.shape)) * 8 == math.prod(kernel.shape)
    assert function.__name__ == "step" and len(batch["valid"]) == 256 and mesh.size == 8


def test_the_command_prints_a_table_and_writes_both_files(few, tmp_path, monkeypatch, capsys):
    def known(program, topology, batch):
        return few[program][topology != scaling.SLICES[8]]

    monkeypatch.setattr(scaling, "measure", known)
    files = {kind: tmp_path / f"scaling.{kind}" for kind in ("json", "svg")}
    given = [f"--{kind}={path}" for kind, path in files.items()]
    given += ["--devices=8,256", "--batch=256,8192", "--programs=sigmoid,softmax"]
    monkeypatch.setattr(sys, "argv", ["scaling.py", *given])
    scaling.main()
    assert capsys.readouterr().out.count("| sigmoid |") == 4
    told = json.loads(files["json"].read_text())
    assert len(told) == 8 and told[0]["temporaries"] == few["sigmoid"][0].temporaries
    picture = ElementTree.parse(files["svg"]).getroot()
    assert len(picture.findall(".//{*}path")) == 8  # a line a program in each of four panels


def test_an_unknown_number_of_devices_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["scaling.py", "--devices=7"])
    with pytest.raises(SystemExit):
        scaling.main()
    assert "--devices=7: there are 8, 16," in capsys.readouterr().err
