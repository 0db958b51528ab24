"""Line charts as inline SVG, coloured by the page's style sheet."""

import math
from collections.abc import Mapping
from itertools import pairwise

from multimodal.report.history import Series, finite
from multimodal.report.markup import Markup, tag

_WIDTH, _HEIGHT = 360, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 12, 10, 26  # margins
_POINTS = 160  # drawn points of a line; longer ones are averaged


def line_chart(lines: Mapping[str, Series], share: bool = False) -> Markup:
    """An SVG of the lines over one step axis; '' where no line has two finite points.

    With `share` the axis goes from 0 to 1 in percent. Values can be read by pointing at them.
    """
    drawn = {name: _thin(finite(series)) for name, series in lines.items()}
    drawn = {name: series for name, series in drawn.items() if len(series) > 1}
    if not drawn:
        return Markup("")
    points = [point for series in drawn.values() for point in series]
    first, last = min(step for step, _ in points), max(step for step, _ in points)
    values = [value for _, value in points]
    ticks = [0, 0.25, 0.5, 0.75, 1] if share else axis_ticks(min(values), max(values))
    low, high = ticks[0], ticks[-1]

    def x(step: float) -> float:
        return _LEFT + (step - first) / (last - first) * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - (value - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    parts = []
    for value in ticks:
        at = f"{y(value):.1f}"
        text = f"{100 * value:.0f} %" if share else short(value)
        parts.append(tag("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=at, y2=at, class_="grid"))
        parts.append(tag("text", text, x=_LEFT - 6, y=at, dy="0.32em", text_anchor="end"))
    for step in step_ticks(first, last):
        at, bottom = f"{x(step):.1f}", _HEIGHT - 8
        parts.append(tag("text", short(step), x=at, y=bottom, text_anchor="middle"))
    for number, (name, series) in enumerate(drawn.items()):
        path = "L".join(f"{x(step):.1f} {y(value):.1f}" for step, value in series)
        parts.append(tag("path", d=f"M{path}", class_=f"line line{number % 4}"))
        for (step, value), (left, width) in zip(
            series, _strips([x(s) for s, _ in series]), strict=True
        ):
            shown = f"{100 * value:.1f} %" if share else f"{value:.4g}"
            told = tag("title", f"{name}, step {step:,}: {shown}")
            strip = {"x": f"{left:.1f}", "width": f"{width:.1f}", "y": f"{y(value) - 8:.1f}"}
            parts.append(tag("g", tag("rect", **strip, height=16, class_="point"), told))
    return tag(
        "svg", *parts, viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img", aria_label=", ".join(drawn)
    )


def axis_ticks(low: float, high: float) -> list[float]:
    """Four to seven round numbers that reach from `low` or less to `high` or more."""
    if low > 0 and low < 0.5 * high:
        low = 0.0
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        margin = abs(high) * 0.1 or 1.0
        low, high = low - margin, high + margin
    step = _round_step((high - low) / 4)
    start, stop = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [i * step for i in range(start, stop + 1)]


def step_ticks(first: int, last: int) -> list[int]:
    """A few round steps within the range."""
    step = max(1, round(_round_step((last - first) / 4)))
    return list(range(-(-first // step) * step, last + 1, step))


def short(value: float) -> str:
    """A number for an axis: 0, 0.25, 1.5k, 3M, 2e-05."""
    size = abs(value)
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= unit:
            return f"{value / unit:.4g}{name}"
    return "0" if size == 0 else f"{value:.3g}"


def _round_step(width: float) -> float:
    power = 10.0 ** math.floor(math.log10(width))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= width * (1 - 1e-9))


def _thin(series: Series) -> Series:
    """At most _POINTS points, each the mean of its neighbourhood at the last of its steps."""
    size = max(1, -(-len(series) // _POINTS))
    groups = [series[i : i + size] for i in range(0, len(series), size)]
    return [(g[-1][0], math.fsum(value for _, value in g) / len(g)) for g in groups]


def _strips(xs: list[float]) -> list[tuple[float, float]]:
    """Left edge and width of the strip that belongs to each point, up to half-way to the next."""
    edges = [xs[0], *((a + b) / 2 for a, b in pairwise(xs)), xs[-1]]
    return [(a, b - a) for a, b in pairwise(edges)]
