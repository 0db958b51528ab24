"""The README.md of an exported model: what it is, data, recipe, commit, results."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from multimodal.config import Config, Data, to_dict
from multimodal.report.details import load
from multimodal.report.history import read_history
from multimodal.report.table import rows_of, show, show_ends

_TASKS = {
    "dual_encoder": "zero-shot-image-classification",
    "siglip2": "zero-shot-image-classification",
    "coca": "zero-shot-image-classification",
    "classifier": "image-classification",
    "bert": "fill-mask",
}


def model_card(config: Config, step: int, workdir: Path, library: str, usage: str) -> str:
    """Markdown with the front matter that the hub reads.

    `library` loads the folder, `usage` says how. Figures are those that the run measured at `step`;
    what was not recorded is said so. A run without tasks was imported: it has no recipe.
    """
    facts = load(workdir)["facts"]
    head = {
        "library_name": library,
        "pipeline_tag": _TASKS.get(config.model.kind, "feature-extraction"),
        "tags": ["multimodal", config.model.kind],
    }
    made = (
        "trained with multimodal"
        if config.tasks
        else f"imported from {config.name}, not trained here"
    )
    made += ", " + facts["interpolated"] if "interpolated" in facts else ""
    sections = [
        "---\n" + "".join(f"{name}: {json.dumps(value)}\n" for name, value in head.items()) + "---",
        f"# {config.name}",
        f"A model of kind `{config.model.kind}`, {made} and exported after step {step:,}.",
        "## Use\n\n" + usage.strip(),
        "## Data\n\n" + _data(config),
        "## Recipe\n\n" + _recipe(config, step, facts) if config.tasks else "",
        "## Results\n\n" + _results(workdir, step),
    ]
    return "\n\n".join(filter(None, sections)) + "\n"


def _recipe(config: Config, step: int, facts: dict[str, str]) -> str:
    optimizer = config.optimizer
    began = config.start.checkpoint if config.start else "random parameters"
    rows = {
        "name": config.name,
        "steps": f"{step:,} of {config.steps:,}",
        "batch size": f"{config.batch_size:,}",
        "optimiser": f"{optimizer.name}, learning rate {optimizer.learning_rate:g}",
        "dtype": config.dtype,
        "moving average": f"{config.ema:g}" if config.ema is not None else "none",
        "seed": str(config.seed),
        "began with": facts.get("interpolated", began),
        "parameters": facts.get("parameters", "not recorded"),
        "devices": facts.get("devices", "not recorded"),
        "versions": facts.get("versions", "not recorded"),
        "commit": facts.get("commit", "not recorded"),
    }
    return _table(("setting", "value"), rows.items())


def _data(config: Config) -> str:
    rows = []
    for name, task in config.tasks.items():
        objectives = ", ".join(o.kind for o in task.objectives.values())
        rows.append((name, _source(task.data), objectives))
    return _table(("task", "data", "objectives"), rows) if rows else "Not recorded."


def _source(data: Data) -> str:
    table = to_dict(data.source)
    told = [f"{name}={value}" for name, value in table.items() if name != "kind" and value]
    return f"{table['kind']} ({', '.join(told)})" if told else table["kind"]


def _results(workdir: Path, step: int) -> str:
    measured = {
        name: dict(series)[step]
        for name, series in read_history(workdir).items()
        if name.startswith("eval/") and step in dict(series)
    }
    rows = [
        (
            row.name.removeprefix("eval/"),
            show(row.name, row.value),
            "" if row.ends is None else show_ends(row.name, row.ends),
            "" if row.chance is None else show(row.name, row.chance),
        )
        for row in rows_of(measured)
    ]
    if not rows:
        return f"The run measured nothing at step {step:,}."
    return _table(("metric", "value", "95 %", "chance"), rows)


def _table(head: Sequence[str], rows: Any) -> str:
    lines = [head, ["---"] * len(head), *rows]
    cells = ([str(cell).replace("|", "\\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)
