"""Two sides that take turns, each in a process of its own that waits for its turn: neither's
threads, memory and libraries are in the way of the other's, and whatever else the machine does
meets both."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

Turns = dict[str, list[float]]
THREADS = ("NPROC", "OMP_NUM_THREADS", "MKL_NUM_THREADS")  # of XLA, OpenMP, MKL


class SideError(Exception):
    """What a side could not do, in one line."""


class Child:
    """A `benchmarks.child` of `module`, computing in so many threads."""

    def __init__(self, module: str, settings: dict[str, Any], threads: int | None = None):
        self.name, number = module, str(threads or len(os.sched_getaffinity(0)))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.child", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **dict.fromkeys(THREADS, number)},
        )
        self.ask("Side", **settings)

    def ask(self, method: str, **arguments: Any) -> Any:
        """What `Side.method(**arguments)` returns. Raises SideError."""
        try:
            self.process.stdin.write(json.dumps([method, arguments]) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise SideError(f"{self.name} ended with status {self.process.wait()}")
        reply = json.loads(line)
        if "error" in reply:
            raise SideError(f"{self.name}: {reply['error']}")
        return reply["value"]

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def take_turns(sides: Mapping[str, Callable[[], float]], rounds: int) -> Turns:
    """What each side returns in each of the rounds; the one to begin changes from round to
    round."""
    found: Turns = {name: [] for name in sides}
    for turn in range(rounds):
        for name in list(sides)[:: -1 if turn % 2 else 1]:
            found[name].append(sides[name]())
    return found


class Spread(NamedTuple):
    """The median, and the quartiles on either side of it."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        return cls(*(float(x) for x in np.quantile(values, (0.25, 0.5, 0.75))))

    def times(self, factor: float) -> "Spread":
        return Spread(*(factor * x for x in self))

    def show(self, digits: int = 3) -> str:
        return f"{self.median:.{digits}f} ({self.low:.{digits}f}-{self.high:.{digits}f})"


def times_as_fast(turns: Turns, ours: str, theirs: str) -> Spread:
    """Their seconds over ours, round by round: above 1 we are faster. What slows both sides of a
    round down does not change it."""
    pairs = zip(turns[theirs], turns[ours], strict=True)
    return Spread.of([one / other for one, other in pairs])


def table(head: list[str], rows: list[list[str]]) -> str:
    """Markdown, in columns of equal width."""
    cells = [head, *rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    lines = [" | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in cells]
    rule = "|".join("-" * (width + 2) for width in widths)
    return "\n".join([f"| {lines[0]} |", f"|{rule}|", *[f"| {line} |" for line in lines[1:]]])
