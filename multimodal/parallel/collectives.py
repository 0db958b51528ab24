"""What a compiled program sends between devices, read from its HLO text."""

import dataclasses
import math
import re
from collections.abc import Sequence

import numpy as np
from jax.sharding import Mesh

from multimodal.parallel.hlo import Instruction, Module, arrays, parse

KINDS = ("all-gather", "all-to-all", "all-reduce", "reduce-scatter", "collective-permute")
_LIST = re.compile(r"replica_groups=\{(\{[\d,{}]*\})\}")
_IOTA = re.compile(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
_MESH = re.compile(
    r"replica_groups=mesh\[([^\]]+)\]"
    r"(?:, device_ids=\(\[([\d,]+)\](?:T\(([\d,]+)\))?\))? \{([^}]+)\}"
)
_PAIRS = re.compile(r"source_target_pairs=\{([\d,{}]*)\}")


@dataclasses.dataclass(frozen=True)
class Collective:
    """`shapes` of what each device is left with; the mesh `axes` along which devices talk, in
    `groups`; who sends to whom, for permutations. It runs `times` in a step; each time `bytes` are
    gathered, reduced or sent, of one group's whole array."""

    kind: str
    shapes: tuple[tuple[int, ...], ...]
    axes: frozenset[str]
    groups: tuple[tuple[int, ...], ...]
    pairs: tuple[tuple[int, int], ...]
    bytes: int
    times: int = 1

    @property
    def size(self) -> int:
        """Devices of a group."""
        return max(map(len, self.groups))

    @property
    def wire_bytes(self) -> int:
        """What each device sends in a step, by the ring algorithms: (n-1)/n of the array, twice
        for an all-reduce; a permutation sends all of it."""
        share = 1.0 if self.kind == "collective-permute" else (self.size - 1) / self.size
        return round((2 if self.kind == "all-reduce" else 1) * share * self.bytes * self.times)

    def crossing_bytes(self, islands: Sequence[int]) -> int:
        """What each device sends in a step to another island, at the least, where `islands` says on
        which one each device is: islands first join what is theirs."""
        most = max(self.groups, key=lambda group: len({islands[d] for d in group}))
        joined = len({islands[d] for d in most})
        if joined == 1:
            return 0
        if self.kind == "collective-permute":
            return self.bytes * self.times
        share = (joined - 1) / joined / (len(most) / joined)
        return round((2 if self.kind == "all-reduce" else 1) * share * self.bytes * self.times)


def shapes(text: str) -> set[tuple[int, ...]]:
    """Every array shape in the program: those of one device's share."""
    return {array.shape for array in arrays(text)}


def collectives(text: str, mesh: Mesh) -> list[Collective]:
    """All collectives that a step runs, with the trips of the loops that they are in.

    TPU programs spread one collective over several fusions: only its start is counted. Raises
    ValueError for one in a loop of unknown length.
    """
    module = parse(text)
    found = []
    for _, outer, times in module.walk(unknown=0):
        for instruction, scattered in _within(module, outer):
            if not times:
                raise ValueError(f"in a loop of unknown length: {instruction.name}")
            found.append(_collective(instruction, mesh, times, scattered))
    return found


def is_ring(pairs: tuple[tuple[int, int], ...], size: int) -> bool:
    """Do the pairs lead from every device through all of its ring of `size` and back?"""
    after, place = dict(pairs), pairs[0][0]
    seen = []
    while place not in seen:
        seen.append(place)
        place = after[place]
    return len(seen) == size


def _within(module: Module, outer: Instruction) -> list[tuple[Instruction, bool]]:
    """The collectives that one instruction starts; True for an all-reduce of which each device
    keeps its part alone."""
    if outer.opcode.removesuffix("-start") in KINDS:
        return [(outer, False)]
    if outer.opcode != "fusion":
        return []
    inner = module.computations[outer.calls].values()
    goes_on = outer.calls.startswith("async_collective_fusion")
    targets = [i.rest for i in inner if i.opcode == "custom-call"]
    starts = any('"AsyncCollectiveStart"' in rest for rest in targets)
    ends = any('"AsyncCollectiveDone"' in rest for rest in targets)
    if (goes_on or ends) and not starts:
        return []
    scattered = outer.calls.startswith("all-reduce-scatter")
    found = [pair for instruction in inner for pair in _within(module, instruction)]
    return [(instruction, inside or scattered) for instruction, inside in found]


def _collective(i: Instruction, mesh: Mesh, times: int, scattered: bool) -> Collective:
    kind, started = i.opcode.removesuffix("-start"), i.opcode.endswith("-start")
    results = i.results
    if started and kind != "all-reduce":  # what is sent, what is received, and counters
        results = tuple(x for x in results if x.shape) or results
        results = results[len(results) // 2 :]
    pairs = tuple(_groups_of(_PAIRS.search(i.rest)[1])) if "_pairs=" in i.rest else ()
    groups = [pair for pair in pairs if pair[0] != pair[1]] or _groups(i.rest, mesh.size)
    total = sum(array.bytes for array in results)
    if kind == "reduce-scatter":
        total *= max(map(len, groups))
    if scattered and kind == "all-reduce":
        kind = "reduce-scatter"
    left = tuple(x.shape for x in results)
    axes = _axes(groups, mesh)
    return Collective(kind, left, axes, tuple(groups), pairs, total, times)


def _ints(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(",") if number)


def _groups_of(text: str) -> list[tuple[int, ...]]:
    return [_ints(group) for group in re.findall(r"\{([\d,]+)\}", text)]


def _groups(rest: str, size: int) -> list[tuple[int, ...]]:
    """Replica groups in each of the ways that XLA writes them."""
    if match := _LIST.search(rest):
        return _groups_of(match[1])
    if match := _IOTA.search(rest):
        return list(map(tuple, _iota(match[2], match[3]).reshape(_ints(match[1]))))
    if match := _MESH.search(rest):
        names, sizes = zip(*re.findall(r"'(\w+)'=(\d+)", match[1]), strict=True)
        sizes = tuple(map(int, sizes))
        ids = _iota(match[2] or str(math.prod(sizes)), match[3]).reshape(sizes)
        axes = [names.index(name) for name in re.findall(r"'(\w+)'", match[4])]
        if "(" in match[4]:
            raise ValueError(f"groups over a part of an axis: {match[0]}")
        ids = np.moveaxis(ids, axes, range(-len(axes), 0))
        return list(map(tuple, ids.reshape(-1, math.prod(sizes[axis] for axis in axes))))
    if "replica_groups={}" in rest:
        return [tuple(range(size))]
    raise ValueError(f"replica groups in an unknown form: {rest[:300]}")


def _iota(dims: str, order: str | None) -> np.ndarray:
    ids = np.arange(math.prod(_ints(dims))).reshape(_ints(dims))
    return ids.transpose(_ints(order)) if order else ids


def _axes(groups: list[tuple[int, ...]], mesh: Mesh) -> frozenset[str]:
    """Mesh axes whose coordinate differs within a group."""
    places = np.stack(np.unravel_index(np.arange(mesh.size), mesh.devices.shape), axis=-1)
    differs = [(places[list(group)] != places[group[0]]).any(0) for group in groups]
    return frozenset(np.array(mesh.axis_names)[np.any(differs, axis=0)].tolist())
