"""Ticks and coordinates of the line charts."""

import re

import pytest

from multimodal.report.chart import axis_ticks, line_chart, short, step_ticks


@pytest.mark.parametrize(
    ("low", "high"),
    [(0, 1), (0.4, 5.3), (-3, 2), (218, 300), (1e-9, 1e-3), (5, 5), (0, 0), (-1e7, 3)],
)
def test_ticks_are_round_even_and_reach_around_the_values(low, high):
    ticks = axis_ticks(low, high)
    assert ticks[0] <= low and ticks[-1] >= high and 2 <= len(ticks) <= 8
    step = ticks[1] - ticks[0]
    assert all(b - a == pytest.approx(step) for a, b in zip(ticks, ticks[1:], strict=False))
    assert re.fullmatch(r"(1|2|2\.5|5)(\.0)?e[-+]\d+", f"{step:.1e}")


def test_step_ticks_lie_within_the_range():
    assert step_ticks(20, 3000) == [1000, 2000, 3000]
    assert step_ticks(0, 3) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1500, "1.5k"),
        (2e6, "2M"),
        (3e9, "3G"),
        (0.25, "0.25"),
        (-2000, "-2k"),
        (2e-5, "2e-05"),
    ],
)
def test_short_numbers(value, text):
    assert short(value) == text


def test_a_line_goes_through_its_points():
    chart = line_chart({"a": [(0, 0.0), (50, 1.0), (100, 0.5)]}, share=True)
    path = re.search(r'<path d="M([^"]+)"', chart)[1]
    points = [tuple(map(float, p.split())) for p in path.split("L")]
    (x0, y0), (x1, y1), (x2, y2) = points
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2) and y1 < y2 < y0
    assert y0 - y2 == pytest.approx(y2 - y1, abs=0.2)
    assert "a, step 50: 100.0 %" in chart


def test_long_lines_are_averaged_and_keep_their_mean():
    chart = line_chart({"a": [(i, float(i % 2)) for i in range(10_000)]})
    path = re.search(r'<path d="M([^"]+)"', chart)[1]
    assert 100 < path.count("L") < 400
    assert len({p.split()[1] for p in path.split("L")[1:-1]}) <= 2


@pytest.mark.parametrize(
    "series", [[], [(1, 2.0)], [(1, float("nan")), (2, float("inf")), (3, 1.0)]]
)
def test_no_chart_without_two_finite_points(series):
    assert line_chart({"a": series}) == ""
