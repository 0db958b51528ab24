"""Where the time of an example goes: `with stage("decode"):` costs nothing until it is measured."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass
class Spent:
    """Seconds in one stage, without the stages inside it: of the clock, and of the CPU."""

    clock: float = 0.0
    cpu: float = 0.0


_measured: dict[str, Spent] | None = None
_inside: list[Spent] = []  # what the stages within each open one have taken


@contextlib.contextmanager
def stage(name: str) -> Iterator[None]:
    """Marks what it encloses as the stage `name`; stages may lie in each other."""
    if _measured is None:
        yield
        return
    _inside.append(Spent())
    clock, cpu = time.perf_counter(), time.process_time()
    try:
        yield
    finally:
        clock, cpu = time.perf_counter() - clock, time.process_time() - cpu
        inner, spent = _inside.pop(), _measured.setdefault(name, Spent())
        spent.clock += clock - inner.clock
        spent.cpu += cpu - inner.cpu
        if _inside:
            _inside[-1].clock += clock
            _inside[-1].cpu += cpu


@contextlib.contextmanager
def measuring() -> Iterator[dict[str, Spent]]:
    """Measures the stages that this thread goes through; no other may, meanwhile."""
    global _measured
    _measured = {}
    try:
        yield _measured
    finally:
        _measured = None
