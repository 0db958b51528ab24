"""Which record a global position stands for: a shuffle that needs no memory and no history."""

_MASK = (1 << 64) - 1


def record_at(position: int, records: int, group: int = 1, seed: int | None = None) -> int:
    """Index of the record at `position`; every record comes once in each `records` positions.

    Each epoch permutes the aligned blocks of `group` consecutive records; the `records % group`
    left over close the epoch. With `seed` None the order is that of the source.
    """
    epoch, index = divmod(position, records)
    blocks = records // group
    block, within = divmod(index, group)
    if seed is None or block >= blocks:
        return index
    return permute(block, blocks, _mix(_mix(seed) ^ epoch)) * group + within


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


def _mix(value: int) -> int:
    """The finaliser of splitmix64: every input bit moves every output bit."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ value >> 30) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ value >> 27) * 0x94D049BB133111EB) & _MASK
    return value ^ value >> 31
