"""The text of a compiled program as a tree: what runs, how often, on arrays of which size."""

import dataclasses
import math
import re
from collections.abc import Iterator

_HEAD = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) (?:\(.*)?.*\{$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*)$")
_ARRAY = re.compile(r"\b(pred|bf16|[fsuc]\d+\w*)\[([\d,]*)\](?:\{([^{}]*)\})?")
_NAME = re.compile(r"%([\w.\-]+)")
_CALLS = re.compile(r"\b(?:calls|to_apply|body|condition)=%?([\w.\-]+)")
_BRANCHES = re.compile(
    r"\b(?:branch_computations=\{([^}]*)\}|(?:true|false)_computation=%?([\w.\-]+))"
)
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_CONSTANT = re.compile(r"\bconstant\((\d+)\)")


@dataclasses.dataclass(frozen=True)
class Array:
    """One array of a device: its shape, its bytes, and whether it lies in the main memory (not in
    the small one on the chip)."""

    shape: tuple[int, ...]
    bytes: int
    in_hbm: bool


@dataclasses.dataclass(frozen=True)
class Instruction:
    """`results` are flat, also those of nested tuples; `rest` holds the attributes' text."""

    name: str
    opcode: str
    results: tuple[Array, ...]
    operands: tuple[str, ...]
    rest: str
    is_root: bool

    @property
    def calls(self) -> str | None:
        match = _CALLS.search(self.rest)
        return match[1] if match else None


Computation = dict[str, Instruction]


@dataclasses.dataclass(frozen=True)
class Module:
    """A program's computations by name; `entry` names the one that runs first."""

    computations: dict[str, Computation]
    entry: str

    def walk(
        self, name: str | None = None, times: int = 1, unknown: int = 1
    ) -> Iterator[tuple[str, Instruction, int]]:
        """(computation, instruction, how often it runs) of all that is run one after the other,
        loops and branches included; what is inside a fusion is not. A loop whose length is not
        known before it runs takes `unknown` trips."""
        name = name or self.entry
        for instruction in self.computations[name].values():
            yield name, instruction, times
            if instruction.opcode == "while":
                body = re.search(r"\bbody=%?([\w.\-]+)", instruction.rest)[1]
                trips = self.trips(instruction)
                often = times * (unknown if trips is None else trips)
                yield from self.walk(body, often, unknown)
            elif instruction.opcode in ("call", "async-start"):
                yield from self.walk(instruction.calls, times, unknown)
            elif instruction.opcode == "conditional":
                for listed, one in _BRANCHES.findall(instruction.rest):
                    for branch in _NAME.findall(listed) or [one]:
                        yield from self.walk(branch, times, unknown)

    def trips(self, loop: Instruction) -> int | None:
        """How often a loop runs: what the compiler has noted, else the bound that its condition
        compares with; None where neither is a constant."""
        if match := _TRIPS.search(loop.rest):
            return int(match[1])
        condition = re.search(r"\bcondition=%?([\w.\-]+)", loop.rest)[1]
        bounds = [int(n) for text in self._texts(condition) for n in _CONSTANT.findall(text)]
        return max(bounds, default=None)

    def _texts(self, name: str) -> Iterator[str]:
        for instruction in self.computations[name].values():
            yield f"{instruction.opcode}({instruction.rest}"
            if instruction.opcode in ("fusion", "call"):
                yield from self._texts(instruction.calls)


def parse(text: str) -> Module:
    """The module that `compiled.as_text()` prints."""
    computations: dict[str, Computation] = {}
    entry, current = "", None
    for line in text.splitlines():
        if match := _INSTRUCTION.match(line):
            if current is not None:
                instruction = _instruction(*match.groups())
                current[instruction.name] = instruction
        elif line.endswith("{") and (match := _HEAD.match(line)):
            current = computations[match[1]] = {}
            entry = match[1] if line.startswith("ENTRY") else entry
    return Module(computations, entry)


def arrays(text: str) -> tuple[Array, ...]:
    """Every array in a piece of text such as `(bf16[8,4]{1,0}, f32[])`."""
    found = []
    for kind, dims, layout in _ARRAY.findall(text):
        shape = tuple(int(n) for n in dims.split(",") if n)
        size = 1 if kind == "pred" else int(re.search(r"\d+", kind)[0]) / 8
        # S(n) in a layout names a memory other than the main one.
        found.append(Array(shape, math.ceil(math.prod(shape) * size), "S(" not in layout))
    return tuple(found)


def _instruction(root: str | None, name: str, text: str) -> Instruction:
    end = _closing(text, 0) if text.startswith("(") else text.index(" ")
    results, text = text[:end], text[end:].lstrip()
    opcode, _, rest = text.partition("(")
    close = _closing("(" + rest, 0) - 1
    operands = tuple(_NAME.findall(rest[:close]))
    return Instruction(name, opcode, arrays(results), operands, rest, bool(root))


def _closing(text: str, start: int) -> int:
    """The place after the parenthesis that closes the one at `start`."""
    depth = 0
    for place in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if depth == 0:
            return place + 1
    return len(text)
