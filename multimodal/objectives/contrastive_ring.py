"""Every row meets every column, tile by tile, on one device or on a ring of them.

Rows (the first tower) stay where they are. Columns (the second tower) leave home in chunks;
each chunk visits every device of the ring and comes back with the notes taken on its way, such
as its gradient. Chunks go in pairs, in opposite directions, and each travels while the other is at
work, so that sending hides behind computing and no chunk needs a second buffer. All of it is
loops: neither the program nor its temporaries grow with the number of devices, and nothing
larger than tile x chunk is ever built between towers.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, PartitionSpec

from multimodal.objectives.contrastive_dense import equal

Tree = Any


@dataclasses.dataclass(frozen=True)
class Ring:
    """The devices along mesh axes `axes`, as a ring; without axes, a single device.

    Tiles are at most `tile` rows by `chunk` columns; a chunk is also what travels at a time.
    """

    axes: tuple[str, ...] = ()
    size: int = 1
    tile: int = 1024
    chunk: int = 1024

    @classmethod
    def of_mesh(cls, mesh: AbstractMesh, axes: tuple[str, ...]) -> "Ring":
        """The ring over those of `axes` that have more than one device in `mesh`."""
        axes = tuple(axis for axis in axes if mesh.shape.get(axis, 1) > 1)
        size = math.prod(mesh.shape[axis] for axis in axes)
        device = mesh.abstract_device  # None for a mesh of no devices in particular
        if axes and device and device.device_kind.startswith("TPU"):
            # What travels stays in on-chip memory; tiles of 512 x 512 no longer fit (v5e, 768).
            return cls(axes, size, tile=512, chunk=256)
        return cls(axes, size)

    def index(self) -> jax.Array | int:
        return jax.lax.axis_index(self.axes) if self.axes else 0

    def shift(self, tree: Tree, way: int) -> Tree:
        """What the neighbour against the direction of travel holds."""
        if not self.axes:
            return tree
        pairs = [(i, (i + way) % self.size) for i in range(self.size)]
        return jax.tree.map(lambda x: jax.lax.ppermute(x, self.axes, pairs), tree)

    def sum(self, x: jax.Array) -> jax.Array:
        """Sum over all entries of all devices."""
        x = jnp.sum(x)
        return jax.lax.psum(x, self.axes) if self.axes else x

    def count(self, valid: jax.Array, dtype: jnp.dtype) -> jax.Array:
        """Number of valid slots of all devices, at least 1 so that none at all gives 0 / 1."""
        return jnp.maximum(self.sum(valid), 1).astype(dtype)

    def twice(self, sent: jnp.dtype, summed: jnp.dtype) -> bool:
        """Is there less traffic in two tours, in which either tower visits the other and nothing
        is taken home, than in one, which brings gradients back?"""
        return self.size > 1 and sent.itemsize < summed.itemsize

    def own(self, x: jax.Array) -> jax.Array:
        """Marks a constant as different on each device, as the state of a loop has to be."""
        return jax.lax.pcast(x, self.axes, to="varying") if self.axes else x

    def run(self, function: Callable, out_ranks: tuple[int, ...], *args: jax.Array | None) -> Tree:
        """`function(*args)` on every device's share: arrays are split by rows, scalars are not.

        Without axes, the share is all of it, gathered once: left to the compiler, arrays that
        are sharded would be gathered again at every tile.
        """
        if jax.sharding.get_abstract_mesh().empty:
            return function(*args)
        spec = lambda rank: PartitionSpec(self.axes) if rank else PartitionSpec()  # noqa: E731
        return jax.shard_map(
            function,
            in_specs=jax.tree.map(lambda x: spec(x.ndim), args),
            out_specs=tuple(spec(rank) for rank in out_ranks),
        )(*args)


def tour(
    ring: Ring,
    meet: Callable,
    valid: jax.Array,
    ids: jax.Array | None,
    rows: Tree,
    columns: Tree,
    row_notes: Tree,
    column_notes: Tree,
) -> tuple[Tree, Tree]:
    """Calls `meet` on every tile of rows x columns and returns the notes, rows' and columns'.

    `meet(rows, columns, row_notes, column_notes, row_take, column_take, same)` gets slices of
    the trees; `row_take` [tile] and `column_take` [chunk] say which of them take part, `same`
    [tile, chunk] where both are one example or, if there are `ids` [length, parts], have equal
    ones. It returns both notes, to which the pairs that take part are added. All leaves are this
    device's [length, ...].
    """
    length = valid.shape[0]
    chunk = min(ring.chunk, -(-length // 2))
    tile = min(ring.tile, length)
    here = ring.index()
    row_place = jax.lax.broadcasted_iota(jnp.int32, (tile, chunk), 0)
    column_place = jax.lax.broadcasted_iota(jnp.int32, (tile, chunk), 1)

    def visit(row_notes, traveller, first):
        """A chunk of columns, the first of them example `first`, against this device's rows."""
        columns, column_ids, column_take, column_note = traveller

        def step(k, state):
            row_notes, column_note = state
            start, fresh = window(k, tile, length)
            if ids is None:
                offset = first - (here * length + start)
                same = row_place - column_place == offset
            else:
                same = equal(cut(ids, start, tile), column_ids)
            row_note, column_note = meet(
                cut(rows, start, tile),
                columns,
                cut(row_notes, start, tile),
                column_note,
                fresh & cut(valid, start, tile),
                column_take,
                same,
            )
            return paste(row_notes, row_note, start), column_note

        state = jax.lax.fori_loop(0, -(-length // tile), step, (row_notes, column_note))
        # Leaving before the work here is done would take a second buffer.
        return state[0], jax.lax.optimization_barrier((columns, column_ids, column_take, state[1]))

    def journey(k, state):
        """Two chunks go once round the ring, one in each direction."""
        row_notes, column_notes = state
        windows = [window(2 * k + i, chunk, length) for i in (0, 1)]

        def first(i, device):
            return device % ring.size * length + windows[i][0]

        def hop(h, state):
            # While one of the two is at work, the other is on its way.
            row_notes, east, west = state
            west = ring.shift(west, -1)
            row_notes, east = visit(row_notes, east, first(0, here - h))
            row_notes, west = visit(row_notes, west, first(1, here + h + 1))
            return row_notes, ring.shift(east, 1), west

        travellers = [
            (
                cut(columns, start, chunk),
                cut(ids, start, chunk),
                fresh & cut(valid, start, chunk),
                cut(column_notes, start, chunk),
            )
            for start, fresh in windows
        ]
        row_notes, *travellers = jax.lax.fori_loop(0, ring.size, hop, (row_notes, *travellers))
        for (*_, note), (start, fresh) in zip(travellers, windows, strict=True):
            column_notes = paste(column_notes, note, start, fresh)
        return row_notes, column_notes

    notes = jax.tree.map(ring.own, (row_notes, column_notes))
    return jax.lax.fori_loop(0, -(-length // (2 * chunk)), journey, notes)


def window(k: jax.Array, size: int, length: int) -> tuple[jax.Array, jax.Array]:
    """Start of the k-th window, and which of its places no earlier window has covered.

    The last window slides back instead of running over the end.
    """
    start = jnp.minimum(k * size, length - size)
    return start, start + jnp.arange(size) >= k * size


def cut(tree: Tree, start: jax.Array, size: int) -> Tree:
    """Rows [start, start + size) of every leaf."""
    return jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, start, size), tree)


def paste(tree: Tree, part: Tree, start: jax.Array, fresh: jax.Array | None = None) -> Tree:
    """`tree` with `part` written over its rows from `start`, only where `fresh`."""

    def write(x, new):
        if fresh is not None:
            old = jax.lax.dynamic_slice_in_dim(x, start, len(new))
            new = jnp.where(fresh.reshape(-1, *[1] * (new.ndim - 1)), new, old)
        return jax.lax.dynamic_update_slice_in_dim(x, new, start, 0)

    return jax.tree.map(write, tree, part)
