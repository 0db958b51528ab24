"""Where the time of a compiled step goes: the profiler's events, by what they are part of."""

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from benchmarks.turns import table

PRODUCTS = ("dot", "convolution", "ynn_fusion")  # kernels of XLA's own and of YNNPACK's
LOOPS = ("while", "call", "conditional")  # whose time is that of what they hold
_ROW = re.compile(r"^(\d+) (?:\"(.*)\"|\{(.*)\})$")
_OP = re.compile(r"^ *(?:ROOT )?%([\w.\-]+) = .*?(?<![\w.\-%])([\w\-]+)\(")
_METADATA = re.compile(r'metadata=\{(?:op_name="([^"]*)")?[^}]*?(?:stack_frame_id=(\d+))?\}')


class Part(NamedTuple):
    """`phase` is forward, backward or update; `where` a file and function of this project."""

    phase: str
    where: str
    product: bool


class Event(NamedTuple):
    """One run of an operation of the compiled program."""

    operation: str
    seconds: float


def parts(program: str) -> dict[str, Part]:
    """What each operation of a compiled program's text belongs to, by its name; loops are left
    out."""
    lines = program.splitlines()
    names, functions, places, frames = (
        _rows(lines, head)
        for head in ("FileNames", "FunctionNames", "FileLocations", "StackFrames")
    )

    def where(frame: int) -> str:
        while frame:
            at = places[frames[frame]["file_location_id"]]
            file = names[at["file_name_id"]].partition("/multimodal/")[2]
            if file:
                function = functions[at["function_name_id"]].rpartition("<locals>.")[2]
                return f"{file} {function}"
            frame = frames[frame]["parent_frame_id"] - 1
        return "-"

    found = {}
    for line in lines:
        op = _OP.match(line)
        if not op or op[2] in LOOPS:
            continue
        metadata = _METADATA.search(line)
        path, frame = metadata.groups("") if metadata else ("", "")
        backward, forward = "transpose(" in path, "jvp(" in path
        phase = "backward" if backward else "forward" if forward else "update"
        product = op[2] in PRODUCTS or op[1].startswith(PRODUCTS)
        found[op[1]] = Part(phase if path else "-", where(int(frame or 0)), product)
    return found


def _rows(lines: list[str], head: str) -> dict[int, str | dict[str, int]]:
    """One of the tables that stand before the program."""
    rows: dict[int, str | dict[str, int]] = {}
    if head in lines:
        for line in lines[lines.index(head) + 1 :]:
            row = _ROW.match(line)
            if not row:
                break
            pairs = (pair.split("=") for pair in (row[3] or "").split())
            rows[int(row[1])] = row[2] if row[3] is None else {k: int(v) for k, v in pairs}
    return rows


def summary(events: Iterable[Event], program: str, steps: int, most: int = 16) -> str:
    """A Markdown table of milliseconds a step, the largest parts first."""
    known = parts(program)
    spent: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
    for event in events:
        if event.operation in known:
            part = known[event.operation]
            spent[part.phase, part.where][not part.product] += 1e3 * event.seconds / steps
    total = sum(map(sum, spent.values()))
    rows = sorted(spent.items(), key=lambda item: -sum(item[1]))
    left = [sum(column) for column in zip(*[v for _, v in rows[most:]], strict=True)]
    shown = [((phase, where), v) for (phase, where), v in rows[:most]]
    if left:
        shown.append((("", f"{len(rows) - most} more"), left))
    shown.append((("", "all"), [sum(v[i] for v in spent.values()) for i in (0, 1)]))
    return table(
        ["phase", "part", "products, ms", "rest, ms", "share"],
        [
            [phase, where, f"{a:.1f}", f"{b:.1f}", f"{(a + b) / total:.1%}"]
            for (phase, where), (a, b) in shown
        ],
    )
