"""Figures of a run: one JSON object a line, and TensorBoard beside it."""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tensorboardX import SummaryWriter


class MetricWriter:
    """Appends to `metrics.jsonl` and `tensorboard/` of a run folder; silent on other processes."""

    def __init__(self, workdir: Path, enabled: bool = True):
        self._file = self._board = None
        if enabled:
            self._file = (workdir / "metrics.jsonl").open("a", buffering=1)
            self._board = SummaryWriter(str(workdir / "tensorboard"))

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """One line: `step` and the slash-named figures as plain numbers; null where not finite."""
        if self._file is None:
            return
        plain = {name: float(np.asarray(value)) for name, value in figures.items()}
        finite = {name: x if math.isfinite(x) else None for name, x in plain.items()}
        self._file.write(json.dumps({"step": step} | finite) + "\n")
        for name, value in plain.items():
            self._board.add_scalar(re.sub(r"[^\w/.-]", "_", name), value, step)  # it allows no @

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._board.close()


def truncate_after(path: Path, step: int) -> None:
    """Drops the lines of `metrics.jsonl` beyond `step`, and a half-written last one, so that a
    resumed run does not repeat itself."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError):
            continue
    whole = path.with_suffix(".new")  # a kill leaves the old file or the new one
    whole.write_text("".join(kept))
    whole.replace(path)
