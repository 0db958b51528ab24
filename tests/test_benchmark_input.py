"""Whether the input feeds a run: the verdict on given figures, and the command as users run it."""

import json

import pytest

from multimodal.benchmark_input import needed, verdict, worker_counts
from multimodal.data.stages import Spent
from multimodal.data.throughput import Profile, Rate
from multimodal.errors import UserError
from tests.commands import finish, start
from tests.shared import shared_path


def found(cpu=1e-3, waiting=0.0, picture=(375.0, 500.0), shards=64):
    stages = {
        "read": Spent(0.1 * cpu + waiting, 0.1 * cpu),
        "decode": Spent(0.6 * cpu, 0.6 * cpu),
        "augment": Spent(0.3 * cpu, 0.3 * cpu),
    }
    return Profile(stages, 60e3, 0.0, picture, shards, 10_000, 512)


RATES = [Rate(0, 900, 1000), Rate(2, 1800, 950), Rate(4, 3000, 800)]


def told(need, profile=None, rates=RATES, hosts=1, cores=4, size=224):
    return verdict(profile or found(), rates, need, hosts, cores, size)


def test_enough_names_the_fewest_workers():
    enough, line = told(1400)
    assert enough is True
    assert line == (
        "enough: this host makes 3,000 examples/s with workers=4, 2.14 times the 1,400 that it "
        "must; workers=2 will do"
    )
    assert told(700)[1].endswith("workers=0 will do")
    assert told(2500)[0] is True
    assert told(2501)[0] is False  # a fifth more than needed is asked for


def test_too_slow_asks_for_workers_while_there_are_cores():
    enough, line = told(4000, cores=96)
    assert enough is False
    # 4000 * 1.2 / 800 a CPU-second
    assert line.startswith("too slow: this host makes 3,000 examples/s with workers=4, 0.75 times")
    assert line.endswith("set config.tasks.TASK.data.workers=6, of 96 cores")
    assert told(2900, cores=96)[1].startswith("hardly enough: ")


def test_too_slow_with_all_cores_at_work_asks_for_hosts_or_smaller_pictures():
    line = told(4000, profile=found(picture=(768.0, 1024.0)))[1]
    assert line.endswith(
        "it takes 6 free cores and this host has 4: use more hosts, or store pictures at 256 "
        "pixels, since decoding is 60% of the work"
    )
    assert told(4000, profile=found(picture=(256.0, 320.0)))[1].endswith("use more hosts")
    assert told(4000, profile=found(picture=None))[1].endswith("use more hosts")


def test_cores_that_have_other_work_are_told():
    line = told(2600, cores=8, rates=[Rate(8, 2000, 1000)])[1]
    assert line.endswith(
        "it takes 4 free cores of 8, which have other work: give it more of them, or"
        " store pictures at 256 pixels, since decoding is 60% of the work"
    )


def test_too_slow_for_the_disks():
    line = told(4000, profile=found(waiting=5e-3))[1]
    assert "reading waits 5.0 ms an example for 60 kB: use faster or local disks" in line


def test_too_few_shards_come_first():
    assert told(1, profile=found(shards=3), hosts=4) == (
        False,
        "shards=3 are fewer than hosts=4: write the data to at least 4 files",
    )


def test_without_a_need_the_best_is_told():
    enough, line = told(None)
    assert enough is None
    assert line.startswith("this host makes 3,000 examples/s with workers=4; --step_seconds or")


def test_what_a_host_must_make():
    assert needed(256, 2, None, None) is None
    assert needed(256, 2, 1000.0, None) == 500
    assert needed(256, 2, None, 4.0) == 32
    with pytest.raises(UserError, match="say the same"):
        needed(256, 1, 1.0, 1.0)
    for name in ("hosts", "examples_per_second", "step_seconds"):
        given = {"hosts": 1, "examples_per_second": None, "step_seconds": None} | {name: 0}
        with pytest.raises(UserError, match=f"--{name}=0: must be positive"):
            needed(256, **given)


def test_which_workers_are_tried(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    assert worker_counts("") == [0, 1, 2, 4, 6]
    assert worker_counts("0,3") == [0, 3]
    with pytest.raises(UserError, match="--workers=two"):
        worker_counts("two")


def test_the_command(tmp_path):
    shared = str(shared_path("data/cifar10-train.parquet").parent)
    arguments = ["--config=configs/cifar10.py", "--seconds=0.2", "--workers=0"]
    arguments += [f"--json={tmp_path}/a.json"]
    wrong = [
        [*arguments, "--config.data_dir=nowhere"],
        [*arguments, "--hosts=7"],
    ]
    processes = [
        start("benchmark_input", *given, MULTIMODAL_DATA=shared)
        for given in ([*arguments, "--step_seconds=4", "--hosts=2"], *wrong)
    ]
    (status, output, errors), *refused = [finish(process) for process in processes]
    assert status == 0, errors
    assert output.splitlines()[0].startswith("task prompts: 45,083 records, shards=1, ")
    facts = json.loads((tmp_path / "a.json").read_text())
    assert facts["hosts"] == 2
    task = facts["tasks"]["prompts"]
    assert task["needed_per_second"] == 128 / 4 / 2
    assert task["enough"] is False
    assert "write the data to at least 2 files" in task["verdict"] == output.splitlines()[-1]
    assert [one["workers"] for one in task["rates"]] == [0]
    assert set(task["stages"]) == {"read", "decode", "augment", "tokenise", "collate", "other"}
    whats = ["no such file", "--hosts=7 do not divide"]
    for (status, _, errors), what in zip(refused, whats, strict=True):
        assert status == 2
        assert errors.startswith("error: ") and what in errors
        assert len(errors.splitlines()) == 1
