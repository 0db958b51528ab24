"""Sigmoid contrastive loss in one walk over the tiles, its gradients taken on the way.

Each pair's loss depends on no other pair, so loss and gradients come out of the same tile: with
p = sigmoid(-z l), d loss / d l = -z p / n, and logits are never computed twice. The division by
n waits for the end, so that the devices need to agree on sums only once.
"""

from functools import partial

import jax
import jax.numpy as jnp

from multimodal.objectives.contrastive_dense import compute_dtype, similarity
from multimodal.objectives.contrastive_ring import Ring, tour


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def fused_sigmoid_loss(ring: Ring, precision, a, b, log_scale, bias, valid, ids) -> jax.Array:
    """See `contrastive.sigmoid_loss`."""
    walk = partial(_walk, ring, precision, False)
    loss, n = ring.run(walk, (0, 0), a, b, log_scale, bias, valid, ids)
    return loss / n


def _forward(ring, precision, a, b, log_scale, bias, valid, ids):
    walk = partial(_walk, ring, precision, True)
    loss, n, *grads = ring.run(walk, (0, 0, 2, 2, 0, 0), a, b, log_scale, bias, valid, ids)
    # Kept in the precision of the sums; the empty arrays remember the arguments' own types.
    return loss / n, (n, grads, [jnp.zeros(0, x.dtype) for x in (a, b, log_scale, bias)])


def _backward(ring, precision, residuals, cotangent):
    n, grads, like = residuals
    weight = cotangent / n
    return *((weight * g).astype(x.dtype) for g, x in zip(grads, like, strict=True)), None, None


fused_sigmoid_loss.defvjp(_forward, _backward)


def _walk(ring, precision, with_grads, a, b, log_scale, bias, valid, ids):
    """Sum of all losses and count of rows; with gradients of the sum if asked for them."""
    dtype = compute_dtype(a, b)
    scale, bias = jnp.exp(log_scale.astype(dtype)), bias.astype(dtype)
    twice = ring.twice(b.dtype, dtype)

    def meet(a, b, row_notes, column_notes, row_take, column_take, same):
        a = jnp.where(row_take[:, None], a, 0)  # broken slots may hold anything, NaN too
        b = jnp.where(column_take[:, None], b, 0)
        both = row_take[:, None] & column_take[None, :]
        signs = jnp.where(same, 1, -1).astype(dtype)
        signed = signs * (scale * similarity(a, b, dtype, precision) + bias)  # [tile, chunk]
        losses = jnp.where(both, jnp.logaddexp(-signed, 0), 0).sum(1)
        if not with_grads:
            return row_notes + losses, column_notes
        loss, da, d_bias = row_notes
        slopes = jnp.where(both, -signs * jax.nn.sigmoid(-signed), 0)
        da += scale * jnp.matmul(slopes, b.astype(dtype), precision=precision)
        if not twice:
            db = scale * jnp.matmul(slopes.T, a.astype(dtype), precision=precision)
            column_notes += db
        return (loss + losses, da, d_bias + slopes.sum(1)), column_notes

    per_row, per_entry = jnp.zeros(len(a), dtype), jnp.zeros(a.shape, dtype)
    if not with_grads:
        loss, _ = tour(ring, meet, valid, ids, a, b, per_row, ())
        return ring.sum(loss), ring.count(valid, dtype)
    row_notes, column_notes = (per_row, per_entry, per_row), () if twice else per_entry
    (loss, da, d_bias), db = tour(ring, meet, valid, ids, a, b, row_notes, column_notes)
    if twice:
        _, db, _ = tour(ring, meet, valid, ids, b, a, row_notes, ())[0]
    # As logits = scale a.b, the derivative by log scale is the sum of a * da.
    d_scale = ring.sum(jnp.where(valid[:, None], a * da, 0))
    return ring.sum(loss), ring.count(valid, dtype), da, db, d_scale, ring.sum(d_bias)
