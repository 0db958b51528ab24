"""What a compiled program sends between devices, read from its HLO text."""

import dataclasses
import math
import re

import numpy as np
from jax.sharding import Mesh

KINDS = ("all-gather", "all-to-all", "all-reduce", "reduce-scatter", "collective-permute")
_LINE = re.compile(rf"= (?P<results>.*?) (?P<kind>{'|'.join(KINDS)})(?:-start)?\((?P<rest>.*)")
_SHAPE = re.compile(r"\b(?:pred|bf16|[fsu]\d+)\[([\d,]*)\]")
_LIST = re.compile(r"replica_groups=\{(\{[\d,{}]*\})\}")
_IOTA = re.compile(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
_MESH = re.compile(
    r"replica_groups=mesh\[([^\]]+)\]"
    r"(?:, device_ids=\(\[([\d,]+)\](?:T\(([\d,]+)\))?\))? \{([^}]+)\}"
)
_PAIRS = re.compile(r"source_target_pairs=\{([\d,{}]*)\}")


@dataclasses.dataclass(frozen=True)
class Collective:
    """`shapes` of what each device is left with; the mesh `axes` along which devices talk; who
    sends to whom, for permutations."""

    kind: str
    shapes: tuple[tuple[int, ...], ...]
    axes: frozenset[str]
    pairs: tuple[tuple[int, int], ...]


def shapes(text: str) -> set[tuple[int, ...]]:
    """Every array shape in the program: those of one device's share."""
    return {_ints(dims) for dims in _SHAPE.findall(text)}


def collectives(text: str, mesh: Mesh) -> list[Collective]:
    """All collectives of the program, each once, however often its loop runs."""
    found = []
    for line in text.splitlines():
        if match := _LINE.search(line):
            rest = match["rest"]
            pairs = tuple(_groups_of(_PAIRS.search(rest)[1])) if "_pairs=" in rest else ()
            groups = [pair for pair in pairs if pair[0] != pair[1]] or _groups(rest, mesh.size)
            results = tuple(_ints(dims) for dims in _SHAPE.findall(match["results"]))
            found.append(Collective(match["kind"], results, _axes(groups, mesh), pairs))
    return found


def is_ring(pairs: tuple[tuple[int, int], ...], size: int) -> bool:
    """Do the pairs lead from every device through all of its ring of `size` and back?"""
    after, place = dict(pairs), pairs[0][0]
    seen = []
    while place not in seen:
        seen.append(place)
        place = after[place]
    return len(seen) == size


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
