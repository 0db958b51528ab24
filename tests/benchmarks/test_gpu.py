"""The search of the batch, the figures and the table; what ends the command at once. Sides are
played: no GPU and no torch is needed."""

import json
import sys

import pytest

from benchmarks import gpu
from benchmarks.turns import SideError


def sides(speed, fits, asked=None):
    """A turn of a card that does `speed(batch)` images a second where `fits` examples fit."""

    def turn(settings):
        size = settings["batch_size"]
        if asked is not None:
            asked.append((settings.get("way", ""), size))
        if size > fits:
            raise SideError("benchmarks.ours: RESOURCE_EXHAUSTED: out of memory")
        return {"seconds": size / speed(size)}

    return turn


def sizes(*numbers, **more):
    return [{"batch_size": n} | more for n in numbers]


def test_the_best_batch_is_the_fastest_that_fits():
    asked = []
    growing = sides(lambda n: 100 * n / (n + 64), 512, asked)
    assert gpu.best(sizes(64, 128, 256, 512, 1024, 2048), growing) == {"batch_size": 512}
    assert [size for _, size in asked] == [64, 128, 256, 512, 1024]  # larger ones do not fit either


def test_the_search_ends_where_larger_is_slower():
    asked = []
    falling = sides(lambda n: {64: 100, 128: 110, 256: 90, 512: 200}[n], 512, asked)
    assert gpu.best(sizes(64, 128, 256, 512), falling) == {"batch_size": 128}
    assert [size for _, size in asked] == [64, 128, 256]


def test_ways_are_searched_each_on_its_own():
    turn = sides(lambda n: n, 128)

    def slower_inputs(settings):
        if settings["way"] == "broken":
            raise SideError("no kernel")
        found = turn(settings)
        return found if settings["way"] == "all" else {"seconds": 2 * found["seconds"]}

    asked = [x for way in ("broken", "inputs", "all") for x in sizes(64, 128, 256, way=way)]
    assert gpu.best(asked, slower_inputs) == {"batch_size": 128, "way": "all"}
    assert gpu.best(sizes(64, way="broken"), slower_inputs) is None


def turns(side, *seconds):
    own = {"compiled": True} if side == "theirs" else None
    own = own or {"stacks": {"attention": "cudnn", "keep": "everything"}}
    figures = {"name": side, "batch_size": 128, "parameters": 7, "peak_bytes": 3 * 2**30}
    return [figures | own | {"seconds": s} for s in seconds]


def test_mfu_and_ratio_come_of_the_median_turn():
    model = {"flops": 64 * 500e9, "batch_size": 64, "peak_flops": 1000e12, "device": "H"}
    ours = gpu.record("ours", "m", turns("ours", 0.1, 0.128, 0.2), model)
    theirs = gpu.record("theirs", "m", turns("theirs", 0.256, 0.256), model)
    assert ours["images_per_second"] == pytest.approx(1000)
    assert ours["mfu"] == pytest.approx(0.5)
    assert theirs["mfu"] == pytest.approx(0.25)
    first, second = gpu.rows([ours, theirs])
    assert first == ["m", "ours", "128", "cudnn:everything", "1,000.0", "50.0%", "3.0", "2.00"]
    assert second == ["m", "theirs", "128", "compiled", "500.0", "25.0%", "3.0", ""]
    assert json.loads(json.dumps(ours)) == ours


def test_what_is_unknown_is_not_made_up():
    unknown = [t | {"peak_bytes": None} for t in turns("ours", 0.128)]
    model = {"flops": 500e9, "batch_size": 1, "peak_flops": None, "device": "cpu"}
    line = gpu.record("ours", "m", unknown, model)
    assert line["mfu"] is None and line["peak_bytes"] is None
    assert gpu.rows([line])[0][-3:] == ["-", "-", ""]


@pytest.mark.parametrize(
    "argument, told",
    [("--device=cuda", "no GPU is in sight"), ("--models=ViT-B-31", "there are ViT-B-32")],
)
def test_what_cannot_run_ends_in_a_line(argument, told, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "has_gpu", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu", argument])
    with pytest.raises(SystemExit) as stopped:
        gpu.main()
    assert told in capsys.readouterr().err + str(stopped.value)
