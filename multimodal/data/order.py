"""Which record a global position stands for: a shuffle that needs no memory and no history."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_MASK = (1 << 64) - 1
_BLOCK = 1 << 18  # positions over which the weights of a mixture come out exactly


@dataclass(frozen=True)
class Order:
    """Index of the record at a position, of parts of `sizes` records that lie one after another.

    Each part walks through its own epochs (`record_at`), or is drawn from anew each time
    (`replacement`). Without a seed each is in order.
    """

    sizes: tuple[int, ...]
    weights: tuple[float, ...] = (1.0,)
    seed: int | None = None
    group: int = 1
    window: int = 1
    replacement: bool = False

    def __call__(self, position: int) -> int:
        if len(self.sizes) == 1:
            return self._within(0, position, self.seed)
        part, number = part_at(position, self.weights, self.seed or 0)
        seed = None if self.seed is None else _mix(_mix(self.seed) + part)
        return sum(self.sizes[:part]) + self._within(part, number, seed)

    def _within(self, part: int, number: int, seed: int | None) -> int:
        if self.replacement:
            return _mix(_mix(seed or 0) ^ number) * self.sizes[part] >> 64
        return record_at(number, self.sizes[part], self.group, seed, self.window)


def record_at(
    position: int, records: int, group: int = 1, seed: int | None = None, window: int = 1
) -> int:
    """Index of the record at `position`; every record comes once in each `records` positions.

    Each epoch permutes the aligned blocks of `group` consecutive records; the `records % group`
    left over close the epoch. With `window` > 1 the records of that many permuted blocks are mixed
    with each other. With `seed` None the order is that of the source.
    """
    epoch, index = divmod(position, records)
    blocks = records // group
    if seed is None or index >= blocks * group:
        return index
    key = _mix(_mix(seed) ^ epoch)
    if window > 1:
        first = index // (group * window) * window
        size = min(window, blocks - first) * group
        index = first * group + permute(index - first * group, size, _mix(key ^ first))
    block, within = divmod(index, group)
    return permute(block, blocks, key) * group + within


def part_at(position: int, weights: Sequence[float], seed: int) -> tuple[int, int]:
    """Which part of a mixture a position belongs to, and how many of that part came before it."""
    block, index = divmod(position, _BLOCK)
    counts = shares(tuple(weights))
    parts, numbers = _block(counts, _mix(_mix(seed) ^ block))
    part = int(parts[index])
    return part, block * counts[part] + int(numbers[index])


@functools.cache
def shares(weights: tuple[float, ...], total: int = _BLOCK) -> tuple[int, ...]:
    """`total` divided in proportion to `weights`: rounded down, the rest to the largest remainders
    (Hamilton's method)."""
    exact = [w / sum(weights) * total for w in weights]
    counts = [int(x) for x in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: counts[i] - exact[i])
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    return tuple(counts)


@functools.lru_cache(maxsize=16)
def _block(counts: tuple[int, ...], key: int) -> tuple[np.ndarray, np.ndarray]:
    """Part of each position of a block, and its number within that part; both [_BLOCK]."""
    shuffled = np.argsort(_mix(np.arange(sum(counts), dtype=np.uint64) ^ np.uint64(key)))
    parts = np.repeat(np.arange(len(counts), dtype=np.int32), counts)[shuffled]
    numbers = np.empty(len(parts), np.int32)
    for part, count in enumerate(counts):
        numbers[parts == part] = np.arange(count)
    return parts, numbers


def permute(index: int, size: int, key: int) -> int:
    """The image of `index` under a permutation of `range(size)` that `key` selects.

    A Feistel network over the next even number of bits; what falls outside is permuted again
    (cycle walking: Black and Rogaway 2002, Ciphers with Arbitrary Finite Domains).
    """
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    while True:
        left, right = index >> half, index & mask
        for turn in range(6):
            left, right = right, left ^ (_mix(key ^ (right << 3 | turn)) & mask)
        index = left << half | right
        if index < size:
            return index


def _mix(value: Any) -> Any:
    """The finaliser of splitmix64: every input bit moves every output bit. int, or uint64 array."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ value >> 30) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ value >> 27) * 0x94D049BB133111EB) & _MASK
    return value ^ value >> 31
