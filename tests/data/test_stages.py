"""Time by stage, under a clock of its own."""

import pytest

from multimodal.data import stages
from multimodal.data.stages import Spent, measuring, stage


@pytest.fixture
def clock(monkeypatch):
    now = {"clock": 10.0, "cpu": 3.0}

    def work(clock, cpu=0.0):
        now["clock"] += clock
        now["cpu"] += cpu

    monkeypatch.setattr(stages.time, "perf_counter", lambda: now["clock"])
    monkeypatch.setattr(stages.time, "process_time", lambda: now["cpu"])
    return work


def test_a_stage_is_given_what_no_stage_within_it_takes(clock):
    with measuring() as spent:
        for _ in range(2):
            with stage("augment"):
                clock(1, 0.5)
                with stage("decode"):
                    clock(4, 2)
                    with stage("read"):
                        clock(8)
                clock(2, 1)
        with stage("read"):
            clock(32, 4)
    assert spent == {"augment": Spent(6, 3), "decode": Spent(8, 4), "read": Spent(48, 4)}


def test_a_stage_that_fails_is_counted_and_closed(clock):
    with measuring() as spent:
        with pytest.raises(ValueError), stage("decode"):
            clock(1, 1)
            raise ValueError
        with stage("augment"):
            clock(2, 2)
    assert spent == {"decode": Spent(1, 1), "augment": Spent(2, 2)}


def test_nothing_is_kept_while_nothing_is_measured(clock):
    with measuring() as spent:
        pass
    with stage("decode"):
        clock(1)
    assert spent == {}
