"""`report_data.json` of a run folder: what a page shows beyond `config.json` and `metrics.jsonl`.

    {"facts": {name: text}, "evaluations": {name: {"step": int, **details}}}

The details are those of `multimodal.evaluation.details`; pictures are in them as base64 of PNGs.
"""

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

import multimodal

FILE = "report_data.json"


def load(workdir: str | os.PathLike[str]) -> dict[str, Any]:
    """The file's content; empty tables where there is none."""
    path = Path(workdir, FILE)
    saved = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {"facts": {}, "evaluations": {}} | saved


def save_details(
    workdir: str | os.PathLike[str], name: str, step: int, details: Mapping[str, Any]
) -> None:
    """Puts the newest details of evaluator `name` in place of older ones."""
    content = load(workdir)
    content["evaluations"][name] = {"step": step, **details}
    _save(workdir, content)


def save_facts(workdir: str | os.PathLike[str], facts: Mapping[str, str]) -> None:
    """Adds lines to the head of the page, such as those of `describe`."""
    content = load(workdir)
    content["facts"] |= facts
    _save(workdir, content)


def describe(parameters: int) -> dict[str, str]:
    """What this process knows about the run that it is: size, devices, versions, commit."""
    devices = jax.devices()
    facts = {
        "parameters": f"{parameters:,}",
        "devices": f"{len(devices)} x {devices[0].device_kind}",
        "processes": str(jax.process_count()),
        "versions": f"multimodal {multimodal.__version__}, jax {jax.__version__}, "
        f"Python {platform.python_version()}",
    }
    commit = _commit()
    return facts | ({"commit": commit} if commit else {})


def _commit() -> str:
    """The commit of the checkout that this package lies in, with a mark for local changes."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return ""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""


def _save(workdir: str | os.PathLike[str], content: dict[str, Any]) -> None:
    path = Path(workdir, FILE)
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(content))
    os.replace(unfinished, path)
