"""`report.html`: one page that tells what a run did, with everything in it and nothing fetched."""

import json
import os
import string
from pathlib import Path
from typing import Any

from multimodal.errors import UserError
from multimodal.report import details as saved
from multimodal.report import sections
from multimodal.report.history import Series, evaluations, read_history
from multimodal.report.markup import Markup, join, tag

_HERE = Path(__file__).parent
_CLASSIFICATIONS = {
    "zero_shot": "Zero-shot classification",
    "classification": "Classification",
}


def write_report(workdir: str | os.PathLike[str]) -> Path:
    """Writes `report.html` into the run folder `workdir` and returns its path.

    It shows what there is of `config.json`, `metrics.jsonl` and `report_data.json`; all texts are
    escaped, and the page forbids its browser to load or run anything.
    Raises UserError where the folder holds no run.
    """
    folder = Path(workdir)
    config = _config(folder)
    history = read_history(folder)
    if not config and not history:
        raise UserError(f"report: {folder} holds neither config.json nor metrics.jsonl")
    content = saved.load(folder)
    name = str(config.get("name") or folder.resolve().name)
    parts = [
        ("Results", _results(history)),
        ("Training", join([sections.curves(history), sections.evaluation_curves(history)])),
        *_examples(content["evaluations"]),
        ("Settings", _settings(config)),
    ]
    body = join(tag("section", tag("h2", title), part) for title, part in parts if part)
    page = string.Template((_HERE / "page.html").read_text(encoding="utf-8")).substitute(
        title=tag("title", name),
        style=(_HERE / "page.css").read_text(encoding="utf-8"),
        head=_head(name, config, content["facts"], history),
        body=body,
    )
    path = folder / "report.html"
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(page, encoding="utf-8")
    os.replace(unfinished, path)
    return path


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise UserError(f"report: {path} is not JSON: {error}") from None


def _head(
    name: str, config: dict[str, Any], facts: dict[str, str], history: dict[str, Series]
) -> Markup:
    steps = max((series[-1][0] for series in history.values()), default=0)
    wanted = config.get("steps")
    lines = {"steps": f"{steps:,}" + (f" of {wanted:,}" if wanted else "")}
    if "batch_size" in config:
        lines["batch"] = f"{config['batch_size']:,}"
    if "kind" in config.get("model", {}):
        lines["model"] = config["model"]["kind"].replace("_", " ")
    lines |= facts
    shown = [tag("div", tag("dt", key), tag("dd", value)) for key, value in lines.items()]
    return tag("header", tag("h1", name), tag("dl", *shown))


def _results(history: dict[str, Series]) -> Markup:
    cards = [sections.results(name, values) for name, values in evaluations(history).items()]
    return tag("div", *cards, class_="cards") if cards else Markup("")


def _examples(evaluated: dict[str, dict[str, Any]]) -> list[tuple[str, Markup]]:
    """A section for each retrieval, then one for each kind of classification."""
    parts: list[tuple[str, Markup]] = []
    matrices: dict[str, list[Markup]] = {}
    for name, details in evaluated.items():
        title = f"{name} at step {details['step']:,}"
        if details.get("kind") == "retrieval":
            parts.append((f"Retrieval: {title}", sections.retrieval(details)))
        elif kind := _CLASSIFICATIONS.get(details.get("kind", "")):
            matrix = tag("div", tag("h4", title), sections.confusion(details))
            matrices.setdefault(kind, []).append(matrix)
    return parts + [(kind, tag("div", *own, class_="cards")) for kind, own in matrices.items()]


def _settings(config: dict[str, Any]) -> Markup:
    if not config:
        return Markup("")
    told = json.dumps(config, indent=2, ensure_ascii=False)
    return tag("details", tag("summary", "config.json"), tag("pre", told))
