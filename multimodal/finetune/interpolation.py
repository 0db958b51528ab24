"""Models on the line between two runs' parameters (WiSE-FT, Wortsman et al. 2022,
arXiv:2109.01903): often more robust than either end."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

from multimodal.errors import UserError
from multimodal.models.build import Params
from multimodal.report.chart import axis_ticks
from multimodal.report.markup import Markup, tag

_COLOURS = ("#1f6fb4", "#d1611d", "#2f8f4e", "#8a4fae")
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 480, 300, 56, 20, 34, 40


@jax.jit
def interpolate(start: Params, end: Params, alpha: jax.typing.ArrayLike) -> Params:
    """(1 - alpha) * start + alpha * end, parameter by parameter, float32."""
    return jax.tree.map(lambda a, b: (1 - alpha) * a + alpha * b.astype(jnp.float32), start, end)


def check_same(start: Params, end: Params, told: tuple[str, str]) -> None:
    """Raises UserError, naming a parameter, unless both have the same ones; `told` names them."""
    for path in sorted(start.keys() | end.keys()):
        for params, name in zip((start, end), told, strict=True):
            if path not in params:
                raise UserError(
                    f"{name} has no parameter {path}; only models of one form are mixed"
                )
        if start[path].shape != end[path].shape:
            raise UserError(
                f"{path} has shape {start[path].shape} in {told[0]} but {end[path].shape} in "
                f"{told[1]}; only models of one form are mixed"
            )


def curve(alphas: Sequence[float], lines: Mapping[str, Sequence[float]]) -> Markup:
    """A picture, SVG, of shares of 1 by name over `alphas`, each with a point a value."""
    values = [100 * value for line in lines.values() for value in line]
    ticks = axis_ticks(min(values), max(values))

    def x(alpha: float) -> str:
        return f"{_LEFT + alpha * (_WIDTH - _LEFT - _RIGHT):.1f}"

    def y(percent: float) -> str:
        share = (percent - ticks[0]) / (ticks[-1] - ticks[0])
        return f"{_HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM):.1f}"

    parts = [tag("rect", width=_WIDTH, height=_HEIGHT, fill="white")]
    for tick in ticks:
        ends = {"x1": x(0), "x2": x(1), "y1": y(tick), "y2": y(tick)}
        parts.append(tag("line", **ends, stroke="#ddd"))
        at = {"x": _LEFT - 8, "y": y(tick), "dy": "0.32em", "text_anchor": "end"}
        parts.append(tag("text", f"{tick:g} %", **at))
    for alpha in (0, 0.25, 0.5, 0.75, 1):
        at = {"x": x(alpha), "y": _HEIGHT - _BOTTOM + 16, "text_anchor": "middle"}
        parts.append(tag("text", f"{alpha:g}", **at))
    below = {"x": x(0.5), "y": _HEIGHT - 8, "text_anchor": "middle"}
    parts.append(tag("text", "alpha: 0 the start, 1 fine-tuned", **below))
    for number, (name, line) in enumerate(lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        points = [(x(alpha), y(100 * value)) for alpha, value in zip(alphas, line, strict=True)]
        path = "M" + "L".join(" ".join(point) for point in points)
        parts.append(tag("path", d=path, fill="none", stroke=colour, stroke_width=2))
        parts += [tag("circle", cx=a, cy=b, r=3, fill=colour) for a, b in points]
        at = {"x": _LEFT + 150 * number, "y": 18, "fill": colour, "font_weight": "bold"}
        parts.append(tag("text", name, **at))
    return tag(
        "svg",
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        width=_WIDTH,
        height=_HEIGHT,
        font_family="sans-serif",
        font_size=12,
        fill="#333",
    )
