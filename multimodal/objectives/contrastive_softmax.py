"""Softmax contrastive loss in two walks over the tiles: one for the loss, one for gradients.

The first keeps, for every row and every column, the running maximum m of its logits and the
sum s of exp(logit - m). The second computes the logits again, and from them
d loss / d l = (exp(l - m_row) / s_row + exp(l - m_column) / s_column - 2 [same] / matches) / 2n.
Keeping m and s apart, not log s + m, keeps the digits of probabilities near 1.

With `share` below 1 the matches have only so much of a target; the rest of it is the caller's.
"""

from functools import partial

import jax
import jax.numpy as jnp

from multimodal.objectives.contrastive_dense import MASKED, compute_dtype, similarity
from multimodal.objectives.contrastive_ring import Ring, tour


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def fused_softmax_loss(
    ring: Ring, precision, share: float, a, b, log_scale, valid, ids
) -> jax.Array:
    """See `contrastive.softmax_loss`."""
    return _forward(ring, precision, share, a, b, log_scale, valid, ids)[0]


def _forward(ring, precision, share, a, b, log_scale, valid, ids):
    walk = partial(_loss_walk, ring, precision, share)
    per_row = (1,) * (4 if ids is None else 5)
    loss, n, *sums = ring.run(walk, (0, 0, *per_row), a, b, log_scale, valid, ids)
    return loss / (2 * n), (n, a, b, log_scale, valid, ids, *sums)


def _backward(ring, precision, share, residuals, cotangent):
    n, *arguments = residuals
    walk = partial(_gradient_walk, ring, precision, share)
    return *ring.run(walk, (2, 2, 0), cotangent / (2 * n), *arguments), None, None


fused_softmax_loss.defvjp(_forward, _backward)


def _loss_walk(ring, precision, share, a, b, log_scale, valid, ids):
    """Sum of all losses, count of rows, maximum and sum of every row and of every column; with
    `ids`, also the number of matches of every row, which is that of its column."""
    dtype = compute_dtype(a, b)
    scale = jnp.exp(log_scale.astype(dtype))

    def meet(a, b, row_notes, column_notes, row_take, column_take, same):
        both = row_take[:, None] & column_take[None, :]
        logits = scale * similarity(a, b, dtype, precision)  # [tile, chunk]
        logits = jnp.where(both, logits, MASKED)
        row_sums, match, matches = row_notes
        # The match is read from the same logits that are summed: same rounding, no cancellation.
        match += jnp.where(both & same, logits, 0).sum(1)
        if ids is not None:
            matches += (both & same).sum(1)
        return (_add(row_sums, logits, 1), match, matches), _add(column_notes, logits, 0)

    zeros = jnp.zeros(len(a), dtype)
    masked = jnp.full(len(a), MASKED, dtype)
    matches = None if ids is None else zeros
    row_notes, column_notes = ((masked, zeros), zeros, matches), (masked, zeros)
    notes = tour(ring, meet, valid, ids, a, b, row_notes, column_notes)
    ((row_max, row_sum), match, matches), (column_max, column_sum) = notes
    counts = ()
    if ids is not None:
        # Summed over a set of matches, the mean by rows is that by columns.
        counts = (jnp.maximum(matches, 1),)
        match /= counts[0]
    match *= share
    losses = (row_max - match) + jnp.log(row_sum) + (column_max - match) + jnp.log(column_sum)
    loss = ring.sum(jnp.where(valid, losses, 0))
    return loss, ring.count(valid, dtype), row_max, row_sum, column_max, column_sum, *counts


def _add(running, logits, axis):
    """Maximum and sum of exponentials, with another tile of logits taken in along `axis`."""
    old_max, old_sum = running
    new_max = jnp.maximum(old_max, logits.max(axis))
    new = jnp.exp(logits - jnp.expand_dims(new_max, axis)).sum(axis)
    return new_max, old_sum * jnp.exp(old_max - new_max) + new


def _gradient_walk(ring, precision, share, weight, a, b, log_scale, valid, ids, *sums):
    """Gradients for a, b and log_scale of `weight` times the sum of all losses."""
    dtype = compute_dtype(a, b)
    row_max, row_sum, column_max, column_sum, *matches = sums
    scale = jnp.exp(log_scale.astype(dtype))

    def meet(rows, columns, da, db, row_take, column_take, same):
        (a, row_max, row_sum, *matches), (b, column_max, column_sum) = rows, columns
        a = jnp.where(row_take[:, None], a, 0)  # broken slots may hold anything, NaN too
        b = jnp.where(column_take[:, None], b, 0)
        both = row_take[:, None] & column_take[None, :]
        logits = scale * similarity(a, b, dtype, precision)  # [tile, chunk]
        by_row = jnp.exp(logits - row_max[:, None]) / row_sum[:, None]
        by_column = jnp.exp(logits - column_max) / column_sum
        # Subtracting the match here, not from the finished sum, keeps ten times the accuracy.
        target = share * (same / matches[0][:, None] if matches else same)
        slopes = weight * jnp.where(both, by_row + by_column - 2 * target, 0)
        da += scale * jnp.matmul(slopes, b.astype(dtype), precision=precision)
        if not twice:
            db += scale * jnp.matmul(slopes.T, a.astype(dtype), precision=precision)
        return da, db

    rows, columns = (a, row_max, row_sum), (b, column_max, column_sum)
    zeros, twice = jnp.zeros(a.shape, dtype), ring.twice(b.dtype, dtype)
    walk = partial(tour, ring, meet, valid, ids)
    da, db = walk((*rows, *matches), columns, zeros, () if twice else zeros)
    if twice:
        # What matches a row matches its column, so the two towers may change places.
        db, _ = walk((*columns, *matches), rows, zeros, ())
    # As logits = scale a.b, the derivative by log scale is the sum of a * da.
    d_scale = ring.sum(jnp.where(valid[:, None], a * da, 0))
    return da.astype(a.dtype), db.astype(b.dtype), d_scale.astype(log_scale.dtype)
