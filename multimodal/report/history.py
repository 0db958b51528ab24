"""`metrics.jsonl` as series by name."""

import json
import math
import os
from pathlib import Path

Series = list[tuple[int, float]]  # (step, value), by step


def read_history(workdir: str | os.PathLike[str]) -> dict[str, Series]:
    """Every number of `metrics.jsonl` by its name; {} where there is no such file.

    A resumed run repeats the steps since its last checkpoint: of one step the last line counts. A
    line that a killed run left unfinished is passed over.
    """
    path = Path(workdir, "metrics.jsonl")
    history: dict[str, dict[int, float]] = {}
    lines = path.read_text(encoding="utf-8").split("\n") if path.is_file() else []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if not isinstance(row, dict) or not isinstance(row.get("step"), int):
            continue
        for name, value in row.items():
            if name != "step" and isinstance(value, (int, float)) and not isinstance(value, bool):
                history.setdefault(name, {})[row["step"]] = float(value)
    return {name: sorted(values.items()) for name, values in history.items()}


def evaluations(history: dict[str, Series]) -> dict[str, dict[str, float]]:
    """The newest value of every `eval/NAME/METRIC`, as {NAME: {METRIC: value}}.

    Metrics that stopped being measured before the evaluator's last step are left out.
    """
    steps: dict[str, int] = {}
    found: dict[str, dict[str, tuple[int, float]]] = {}
    for name, series in history.items():
        kind, _, rest = name.partition("/")
        evaluator, _, metric = rest.partition("/")
        if kind == "eval" and metric:
            step = series[-1][0]
            steps[evaluator] = max(step, steps.get(evaluator, step))
            found.setdefault(evaluator, {})[metric] = series[-1]
    return {
        evaluator: {m: value for m, (step, value) in metrics.items() if step == steps[evaluator]}
        for evaluator, metrics in found.items()
    }


def finite(series: Series) -> Series:
    return [(step, value) for step, value in series if math.isfinite(value)]
