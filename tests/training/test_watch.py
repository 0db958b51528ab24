"""The meter under a clock of its own, and the limit on broken records."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multimodal.errors import UserError
from multimodal.training import watch
from multimodal.training.watch import BrokenRecords, Meter

DONE = jnp.zeros(())


class Clock:
    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(watch.time, "monotonic", lambda: self.now)

    def pass_(self, seconds):
        self.now += seconds


class Device:
    device_kind, process_index = "TPU v4", 0

    def memory_stats(self):
        return {"peak_bytes_in_use": 12345}


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def train(meter, clock, steps, waiting, computing):
    for step in range(steps):
        with meter.waiting():
            clock.pass_(waiting)
        clock.pass_(computing)
        meter.stepped((22 if step % 2 else 11) * 10**12)


def test_speed_waiting_and_mfu_since_the_last_reading(clock):
    devices = np.array([Device()] * 4)
    meter = Meter(batch_size=32, devices=devices)
    clock.pass_(40)
    train(meter, clock, 1, waiting=2, computing=8)
    first = meter.read(1, DONE)
    assert first == {
        "train/first_step_seconds": 50,
        "train/input_wait": 0.04,
        "train/peak_memory_bytes": 12345,
    }

    train(meter, clock, 10, waiting=0.1, computing=0.3)
    with meter.paused():
        clock.pass_(1000)
    figures = meter.read(11, DONE)
    assert figures["train/examples_per_second"] == pytest.approx(32 * 10 / 4)
    assert figures["train/step_seconds"] == pytest.approx(4 / 10)
    assert figures["train/input_wait"] == pytest.approx(0.25)
    # 2.5 steps a second, half of 11 TFLOP and half of 22, on four chips of 275 TFLOP/s
    assert figures["train/mfu"] == pytest.approx(2.5 * 16.5 / (4 * 275))
    assert "train/first_step_seconds" not in figures

    train(meter, clock, 2, waiting=0, computing=1)
    figures = meter.read(13, DONE)
    assert figures["train/input_wait"] == 0
    assert figures["train/examples_per_second"] == pytest.approx(32)


def test_no_mfu_where_the_peak_is_unknown(clock):
    meter = Meter(8, np.array(jax.devices()[:1]))
    meter.read(1, DONE)
    clock.pass_(1)
    figures = meter.read(2, DONE)
    assert "train/mfu" not in figures
    assert figures["train/examples_per_second"] == 8
    assert figures["train/peak_memory_bytes"] > 1e6


def test_the_same_step_twice_is_no_speed(clock):
    meter = Meter(8, np.array([Device()]))
    meter.read(4, DONE)
    assert set(meter.read(4, DONE)) == {"train/peak_memory_bytes"}


def batch(size=50, broken=()):
    return {"valid": np.ones(size, bool), "broken": list(broken)}


def records(tmp_path, **allowed):
    return BrokenRecords(tmp_path, allowed)


def test_broken_records_are_counted_and_listed(tmp_path):
    watched = records(tmp_path, pairs=0.1, words=0.1)
    watched.note("pairs", batch(broken=[("a.tar:1", "no JPEG"), ("a.tar:7", "cut off")]))
    watched.note("pairs", batch())
    watched.note("words", batch(broken=[("b.tar:2", "empty caption")]))
    assert watched.check() == 3
    lines = [json.loads(line) for line in (tmp_path / "broken-0.jsonl").read_text().splitlines()]
    assert lines == [
        {"task": "pairs", "key": "a.tar:1", "reason": "no JPEG"},
        {"task": "pairs", "key": "a.tar:7", "reason": "cut off"},
        {"task": "words", "key": "b.tar:2", "reason": "empty caption"},
    ]


def test_no_list_while_nothing_is_broken(tmp_path):
    watched = records(tmp_path, pairs=0.0)
    watched.note("pairs", batch())
    assert watched.check() == 0
    assert not list(tmp_path.iterdir())


def test_more_than_allowed_ends_the_run_once_enough_are_seen(tmp_path):
    watched = records(tmp_path, pairs=0.01, words=1.0)
    bad = [("shard.tar:9", "no JPEG")]
    for _ in range(19):  # 2 % are broken, but fewer than 1000 have been seen
        watched.note("pairs", batch(broken=bad))
    watched.note("words", batch(50, broken=[("x", "y")] * 50))  # another task's do not count
    assert watched.check() == 19 + 50
    watched.note("pairs", batch(broken=bad))
    with pytest.raises(UserError) as error:
        watched.check()
    assert str(error.value) == (
        "task pairs: 2.0% of 1000 records are broken, more than config.tasks.pairs.data.max_broken"
        f"=0.01; {tmp_path}/broken-*.jsonl lists them with the reason of each"
    )


def test_as_many_as_allowed_do_not(tmp_path):
    watched = records(tmp_path, pairs=0.02)
    for _ in range(40):
        watched.note("pairs", batch(broken=[("k", "r")]))
    assert watched.check() == 40


def test_nothing_but_broken_records_ends_the_run_early(tmp_path):
    watched = records(tmp_path, pairs=0.5)
    watched.note("pairs", batch(32, [("k", "r")] * 32))
    watched.check()
    watched.note("pairs", batch(32, [("k", "r")] * 32))
    with pytest.raises(UserError, match="100.0% of 64 records"):
        watched.check()
