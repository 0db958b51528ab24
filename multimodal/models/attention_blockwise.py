"""Attention tile by tile: on one device, or with keys and values going round a ring of them.

The softmax is summed up while tiles come by (Milakov and Gimelshein 2018; Dao et al. 2022), so
that no more than a tile of scores is ever built; the backward pass builds them again. On a ring
(Liu et al. 2023) each device keeps its queries and is visited by the keys and values of all others;
their gradients travel with them, and after one round everything is home.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange

Tree = Any
TILE = 512  # at most so many queries by so many keys
HIDDEN = -1e30  # finite, so that a query with nothing to look at gives no NaN


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def blockwise(
    q: jax.Array,  # [batch, queries, heads, head_dim], scaled
    k: jax.Array,  # [batch, keys, heads, head_dim]
    v: jax.Array,  # [batch, keys, heads, head_dim]
    mask: jax.Array | None,  # bool, [batch or 1, heads or 1, queries or 1, keys of all devices]
    causal: bool,
    axis: str | None,
) -> jax.Array:
    """softmax(Q K^T) V, [batch, queries, heads, head_dim]; scores and sums are float32.

    Inside a shard_map, `axis` is the mesh axis that queries and keys are split along.
    """
    return _forward(q, k, v, mask, causal, axis)[0]


class Seen(NamedTuple):
    """A softmax over the keys that came by so far: the largest score and the sum of exponentials
    [batch, heads, queries], the sum of values weighted so [batch, heads, queries, head_dim]."""

    largest: jax.Array
    total: jax.Array
    values: jax.Array


def _forward(q, k, v, mask, causal, axis):
    pairs = Pairs.of(q, k, mask, causal, axis)

    def meet(place: "Place", q: jax.Array, keys: Tree, seen: Seen, _: None) -> tuple[Seen, None]:
        k, v = keys
        scores, _ = pairs.scores(q, k, place)
        largest = jnp.maximum(seen.largest, scores.max(-1))
        weights = jnp.exp(scores - largest[..., None])
        shrink = jnp.exp(seen.largest - largest)
        values = _dot("bhqk,bhkd->bhqd", weights.astype(v.dtype), v)
        values = seen.values * shrink[..., None] + values
        return Seen(largest, seen.total * shrink + weights.sum(-1), values), None

    rows, columns = cut(q), (cut(k), cut(v))
    zeros = _zeros(rows)
    seen = Seen(zeros[..., 0] + HIDDEN, zeros[..., 0], zeros)
    seen, _ = pairs.tour(meet, rows, columns, seen, None)
    # Of what is seen the largest adds 1; the rest is of queries before the first key of all.
    total = jnp.maximum(seen.total, 1.0)
    out = join(seen.values / total[..., None], q.shape[1]).astype(q.dtype)
    return out, (q, k, v, mask, out, seen.largest, total)


def _backward(causal, axis, kept, gradient):
    q, k, v, mask, out, largest, total = kept
    pairs = Pairs.of(q, k, mask, causal, axis)

    def meet(place: "Place", row: Tree, keys: Tree, dq: jax.Array, notes: Tree) -> Tree:
        (q, dout, largest, total, mean), (k, v), (dk, dv) = row, keys, notes
        scores, hidden = pairs.scores(q, k, place)
        weights = jnp.exp(scores - largest[..., None]) / total[..., None]
        dscores = weights * (_dot("bhqd,bhkd->bhqk", dout, v) - mean[..., None])
        if hidden is not None:  # a query that sees nothing has weights, but no gradient
            dscores = jnp.where(hidden, 0.0, dscores)
        dscores = dscores.astype(k.dtype)
        dq += _dot("bhqk,bhkd->bhqd", dscores, k)
        dk += _dot("bhqk,bhqd->bhkd", dscores, q)
        dv += _dot("bhqk,bhqd->bhkd", weights.astype(dout.dtype), dout)
        return dq, (dk, dv)

    mean = jnp.einsum("bqhd,bqhd->bhq", *(x.astype(jnp.float32) for x in (out, gradient)))
    mean = cut(rearrange(mean, "b h q -> b q h 1"))[..., 0]
    rows, columns = (cut(q), cut(gradient), largest, total, mean), (cut(k), cut(v))
    zeros = _zeros(rows[0]), tuple(map(_zeros, columns))
    dq, (dk, dv) = pairs.tour(meet, rows, columns, *zeros)
    dq, dk, dv = (join(d, x.shape[1]).astype(x.dtype) for d, x in ((dq, q), (dk, k), (dv, v)))
    return dq, dk, dv, None


blockwise.defvjp(_forward, _backward)


class Place(NamedTuple):
    """The i-th tile of this device's queries and the j-th of the keys of device `home`."""

    i: jax.Array
    j: jax.Array
    home: jax.Array | int


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Who sees whom: each device of the ring has so many `queries` and `keys`; `mask` is padded to
    whole tiles."""

    queries: int
    keys: int
    mask: jax.Array | None
    causal: bool
    axis: str | None
    devices: int

    @classmethod
    def of(
        cls, q: jax.Array, k: jax.Array, mask: jax.Array | None, causal: bool, axis: str | None
    ) -> "Pairs":
        queries, keys = q.shape[1], k.shape[1]
        if mask is not None:
            rows = _padding(queries) if mask.shape[2] > 1 else 0
            mask = jnp.pad(mask, [(0, 0), (0, 0), (0, rows), (0, _padding(keys))])
        devices = jax.lax.axis_size(axis) if axis else 1
        return cls(queries, keys, mask, causal, axis, devices)

    def here(self) -> jax.Array | int:
        return jax.lax.axis_index(self.axis) if self.axis else 0

    def first(self, place: Place) -> tuple[jax.Array, jax.Array]:
        """Positions of a tile's first query and first key among all; the last of both are equal."""
        query = self.here() * self.queries + place.i * _tile(self.queries)
        key = place.home * self.keys + place.j * _tile(self.keys)
        return query + (self.keys - self.queries) * self.devices, key

    def scores(
        self, q: jax.Array, k: jax.Array, place: Place
    ) -> tuple[jax.Array, jax.Array | None]:
        """[batch, heads, queries, keys] of a tile, and where they are hidden; padding is -inf."""
        scores = _dot("bhqd,bhkd->bhqk", q, k)
        seen = self.seen(place, scores.shape[2:])
        if seen is not None:
            scores = jnp.where(seen, scores, HIDDEN)
        if _padding(self.keys):
            column = place.j * scores.shape[3] + jnp.arange(scores.shape[3])
            scores = jnp.where(column < self.keys, scores, -jnp.inf)
        return scores, None if seen is None else ~seen

    def seen(self, place: Place, tile: tuple[int, int]) -> jax.Array | None:
        query, key = self.first(place)
        seen = None
        if self.mask is not None:
            start = (0, 0, place.i * tile[0] if self.mask.shape[2] > 1 else 0, key)
            shape = (*self.mask.shape[:2], min(tile[0], self.mask.shape[2]), tile[1])
            seen = jax.lax.dynamic_slice(self.mask, start, shape)
        if self.causal:
            before = (query + jnp.arange(tile[0]))[:, None] >= key + jnp.arange(tile[1])
            seen = before if seen is None else seen & before
        return seen

    def tour(
        self,
        meet: Callable,
        rows: Tree,
        columns: Tree,
        row_notes: Tree,
        column_notes: Tree,
    ) -> tuple[Tree, Tree]:
        """`row_note, column_note = meet(place, row, column, row_note, column_note)` for each tile
        of rows and each of columns of all devices; leaves have a leading axis of tiles."""

        def tile(place, row, column, row_note, column_note):
            stay = lambda: (row_note, column_note)  # noqa: E731
            go = lambda: meet(place, row, column, row_note, column_note)  # noqa: E731
            if not self.causal:
                return go()
            query, key = self.first(place)
            return jax.lax.cond(query + _tile(self.queries) > key, go, stay)

        def hop(n, state):
            columns, row_notes, column_notes = state
            home = (self.here() - n) % self.devices
            away = self.shift(columns)  # on their way while there is work to do here

            def each_row(column_notes, x):
                i, row, row_note = x

                def each_column(row_note, x):
                    j, column, column_note = x
                    return tile(Place(i, j, home), row, column, row_note, column_note)

                row_note, column_notes = _scan(each_column, row_note, columns, column_notes)
                return column_notes, row_note

            column_notes, row_notes = _scan(each_row, column_notes, rows, row_notes)
            return away, row_notes, self.shift(column_notes)

        state = columns, row_notes, column_notes
        return jax.lax.fori_loop(0, self.devices, hop, state)[1:]

    def shift(self, tree: Tree) -> Tree:
        """What the device before this one holds."""
        if not self.axis:
            return tree
        pairs = [(i, (i + 1) % self.devices) for i in range(self.devices)]
        return jax.tree.map(lambda x: jax.lax.ppermute(x, self.axis, pairs), tree)


def cut(x: jax.Array) -> jax.Array:
    """[batch, length, heads, head_dim] -> [tiles, batch, heads, tile, head_dim], padded."""
    x = jnp.pad(x, [(0, 0), (0, _padding(x.shape[1])), (0, 0), (0, 0)])
    return rearrange(x, "b (n t) h d -> n b h t d", t=_tile(x.shape[1]))


def join(x: jax.Array, length: int) -> jax.Array:
    """The reverse of `cut`."""
    return rearrange(x, "n b h t d -> b (n t) h d")[:, :length]


def _tile(length: int) -> int:
    """Tiles are of one size, and no more than `TILE`."""
    return -(-length // -(-length // TILE))


def _padding(length: int) -> int:
    return -length % _tile(length)


def _scan(body: Callable, carry: Tree, xs: Tree, notes: Tree) -> tuple[Tree, Tree]:
    number = jnp.arange(len(jax.tree.leaves(xs)[0]))
    return jax.lax.scan(body, carry, (number, xs, notes))


def _zeros(x: jax.Array) -> jax.Array:
    """float32, and to a shard_map as different between devices as `x`."""
    return jax.lax.full_like(x, 0, jnp.float32)


def _dot(spec: str, a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.einsum(spec, a, b, preferred_element_type=jnp.float32)
