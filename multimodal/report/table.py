"""Metrics as a table for the terminal, each beside its chance level."""

from collections.abc import Mapping


def results_table(metrics: Mapping[str, float]) -> str:
    """Lines of metric, value and chance, in the order given.

    A chance level is the metric of the same name with `chance/` in it; shares of 1 are printed as
    percentages.
    """
    rows = [("metric", "value", "chance")]
    for name, value, chance in rows_of(metrics):
        rows.append((name, show(name, value), "" if chance is None else show(name, chance)))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    lines = [
        f"{name:<{widths[0]}}  {value:>{widths[1]}}  {chance:>{widths[2]}}".rstrip()
        for name, value, chance in rows
    ]
    return "\n".join([lines[0], "-" * (sum(widths) + 4), *lines[1:]])


def rows_of(metrics: Mapping[str, float]) -> list[tuple[str, float, float | None]]:
    """(metric, value, chance level if it has one); no row for a chance level itself."""
    chances = {n.replace("chance/", "", 1): v for n, v in metrics.items() if _is_chance(n)}
    return [(n, v, chances.get(n)) for n, v in metrics.items() if not _is_chance(n)]


def is_share(name: str) -> bool:
    """Whether the metric is a share of 1."""
    return "_R@" in name or "accuracy" in name


def show(name: str, value: float) -> str:
    if is_share(name):
        return f"{100 * value:.1f} %"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.4g}"


def _is_chance(name: str) -> bool:
    return "chance" in name.split("/")
