"""Sigmoid contrastive loss in one walk over the tiles, its gradients taken on the way.

Each pair's loss depends on no other pair, so loss and gradients come out of the same tile: with
p = sigmoid(-z l), d loss / d l = -z p / n, and logits are never computed twice.
"""

from functools import partial

import jax
import jax.numpy as jnp

from multimodal.objectives.contrastive_dense import compute_dtype, similarity
from multimodal.objectives.contrastive_ring import Ring, tour


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def fused_sigmoid_loss(ring: Ring, chunk, precision, a, b, log_scale, bias, valid) -> jax.Array:
    """See `contrastive.sigmoid_loss`."""
    walk = partial(_walk, ring, chunk, precision, False)
    return ring.run(walk, (0,), a, b, log_scale, bias, valid)[0]


def _forward(ring, chunk, precision, a, b, log_scale, bias, valid):
    walk = partial(_walk, ring, chunk, precision, True)
    loss, *grads = ring.run(walk, (0, 2, 2, 0, 0), a, b, log_scale, bias, valid)
    # Kept in the precision of the sums; the empty slices remember the arguments' own types.
    return loss, (grads, [x.ravel()[:0] for x in (a, b, log_scale, bias)])


def _backward(ring, chunk, precision, residuals, cotangent):
    grads = [(cotangent * g).astype(like.dtype) for g, like in zip(*residuals, strict=True)]
    return *grads, None


fused_sigmoid_loss.defvjp(_forward, _backward)


def _walk(ring, chunk, precision, with_grads, a, b, log_scale, bias, valid):
    """(loss,), or loss and gradients for a, b, log_scale, bias, from one device's share."""
    dtype = compute_dtype(a, b)
    scale, bias = jnp.exp(log_scale.astype(dtype)), bias.astype(dtype)
    n = jnp.maximum(ring.sum(valid), 1).astype(dtype)

    def meet(a, b, row_notes, column_notes, both, same):
        a = jnp.where(both.any(1)[:, None], a, 0)  # broken slots may hold anything, NaN too
        b = jnp.where(both.any(0)[:, None], b, 0)
        signs = jnp.where(same, 1, -1).astype(dtype)
        signed = signs * (scale * similarity(a, b, dtype, precision) + bias)  # [tile, chunk]
        losses = jnp.where(both, jnp.logaddexp(-signed, 0), 0)
        row_notes["loss"] += losses.sum(1)
        if with_grads:
            slopes = jnp.where(both, -signs * jax.nn.sigmoid(-signed), 0) / n
            row_notes["bias"] += slopes.sum(1)
            row_notes["grad"] += scale * jnp.matmul(slopes, b.astype(dtype), precision=precision)
            column_notes += scale * jnp.matmul(slopes.T, a.astype(dtype), precision=precision)
        return row_notes, column_notes

    zeros = partial(jnp.zeros, dtype=dtype)
    row_notes, column_notes = {"loss": zeros(len(a))}, ()
    if with_grads:
        row_notes |= {"bias": zeros(len(a)), "grad": zeros(a.shape)}
        column_notes = zeros(b.shape)
    row_notes, db = tour(ring, chunk, meet, valid, a, b, row_notes, column_notes)
    loss = ring.sum(row_notes["loss"]) / n
    if not with_grads:
        return (loss,)
    da = row_notes["grad"]
    # As logits = scale a.b, the derivative by log scale is the sum of a * da.
    d_scale = ring.sum(jnp.where(valid[:, None], a * da, 0))
    return loss, da, db, d_scale, ring.sum(row_notes["bias"])
