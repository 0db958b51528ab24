"""Sides in processes of their own, their turns, and the figures that come of them."""

import pytest

from benchmarks.turns import Child, SideError, Spread, table, take_turns, times_as_fast


def test_a_child_answers_tells_what_went_wrong_and_that_it_died():
    child = Child("tests.benchmarks.echo", {"factor": 3}, threads=1)
    assert child.ask("times", number=14) == 42
    assert child.ask("threads") == ["1", "1"]
    with pytest.raises(SideError, match="^tests.benchmarks.echo: ValueError: two lines$"):
        child.ask("fail")
    assert child.ask("times", number=2) == 6  # it goes on
    with pytest.raises(SideError, match="ended with status 3"):
        child.ask("die")


def test_a_child_that_cannot_start_says_so():
    with pytest.raises(SideError, match="echo: TypeError: .*'factor'"):
        Child("tests.benchmarks.echo", {})


def test_sides_alternate_and_neither_is_always_first():
    order = []

    def side(name):
        return lambda: order.append(name) or len(order)

    turns = take_turns({"a": side("a"), "b": side("b")}, 3)
    assert "".join(order) == "abbaab"
    assert turns == {"a": [1, 4, 5], "b": [2, 3, 6]}


def test_what_slows_a_round_down_leaves_the_ratio_as_it_is():
    ours, theirs = [1.0, 2.0, 4.0, 1.0], [1.5, 3.0, 6.0, 1.5]
    assert times_as_fast({"o": ours, "t": theirs}, "o", "t") == Spread(1.5, 1.5, 1.5)
    assert times_as_fast({"o": theirs, "t": ours}, "o", "t").median == pytest.approx(2 / 3)


def test_spread_is_median_and_quartiles():
    spread = Spread.of([5.0, 1.0, 2.0, 4.0, 3.0])
    assert spread == (2, 3, 4)
    assert spread.times(10).show(1) == "30.0 (20.0-40.0)"


def test_table_is_markdown():
    rows = table(["a", "bcd"], [["1", "2"], ["34", "5"]]).splitlines()
    assert rows == ["| a  | bcd |", "|----|-----|", "| 1  | 2   |", "| 34 | 5   |"]
