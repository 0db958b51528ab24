"""Metrics as a table for the terminal, each beside its interval and its chance level."""

from collections.abc import Mapping
from typing import NamedTuple


class Row(NamedTuple):
    """A metric, the ends of its 95 % interval and its chance level, where it has them."""

    name: str
    value: float
    ends: tuple[float, float] | None
    chance: float | None


def results_table(metrics: Mapping[str, float]) -> str:
    """Lines of metric, value, interval and chance, in the order given.

    A chance level is the metric of the same name with `chance/` in it, an interval goes from
    `NAME/low` to `NAME/high`; shares of 1 are printed as percentages.
    """
    rows = [("metric", "value", "95 %", "chance")]
    for name, value, ends, chance in rows_of(metrics):
        told = "" if ends is None else show_ends(name, ends)
        rows.append((name, show(name, value), told, "" if chance is None else show(name, chance)))
    if not any(row[2] for row in rows[1:]):
        rows = [(name, value, chance) for name, value, _, chance in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            [f"{name:<{widths[0]}}", *(f"{c:>{w}}" for c, w in zip(cells, widths[1:], strict=True))]
        )
        for name, *cells in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *(line.rstrip() for line in lines[1:])])


def rows_of(metrics: Mapping[str, float]) -> list[Row]:
    """The metrics; no row for a chance level or the end of an interval itself."""
    chances = {n.replace("chance/", "", 1): v for n, v in metrics.items() if _is_chance(n)}
    return [
        Row(n, v, ends_of(metrics, n), chances.get(n))
        for n, v in metrics.items()
        if not _is_chance(n) and not is_end(metrics, n)
    ]


def ends_of(metrics: Mapping[str, float], name: str) -> tuple[float, float] | None:
    """The interval of a metric, if it has one."""
    ends = metrics.get(f"{name}/low"), metrics.get(f"{name}/high")
    return None if None in ends else ends


def is_end(metrics: Mapping[str, float], name: str) -> bool:
    """Whether a name is that of an end of another metric's interval."""
    whole, _, end = name.rpartition("/")
    return end in ("low", "high") and whole in metrics


def is_share(name: str) -> bool:
    """Whether the metric is a share of 1."""
    return "_R@" in name or "accuracy" in name or "_recall" in name


def show(name: str, value: float) -> str:
    if is_share(name):
        return f"{100 * value:.1f} %"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.4g}"


def show_ends(name: str, ends: tuple[float, float]) -> str:
    """An interval without its unit, which stands beside the value."""
    low, high = (show(name, end).removesuffix(" %") for end in ends)
    return f"{low} to {high}"


def _is_chance(name: str) -> bool:
    return "chance" in name.split("/")
