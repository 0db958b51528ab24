"""The contrastive losses written out over the whole matrix of logits: the oracle of the rest."""

import jax
import jax.numpy as jnp

MASKED = -1e30  # instead of -inf, whose differences are NaN


def softmax_loss(a, b, log_scale, valid, precision) -> jax.Array:
    """See `contrastive.softmax_loss`; `valid` [batch] bool."""
    logits, both = _logits(a, b, log_scale, valid, precision)  # [batch, batch]
    logits = jnp.where(both, logits, MASKED)
    match = jnp.diagonal(logits)
    rows = jax.nn.logsumexp(logits, axis=1) - match
    columns = jax.nn.logsumexp(logits, axis=0) - match
    return jnp.sum(jnp.where(valid, rows + columns, 0)) / (2 * jnp.maximum(valid.sum(), 1))


def sigmoid_loss(a, b, log_scale, bias, valid, precision) -> jax.Array:
    """See `contrastive.sigmoid_loss`; `valid` [batch] bool."""
    logits, both = _logits(a, b, log_scale, valid, precision)
    signs = 2 * jnp.eye(len(a), dtype=logits.dtype) - 1
    losses = -jax.nn.log_sigmoid(signs * (logits + jnp.asarray(bias, logits.dtype)))
    return jnp.sum(jnp.where(both, losses, 0)) / jnp.maximum(valid.sum(), 1)


def _logits(a, b, log_scale, valid, precision):
    """exp(log_scale) a b^T [batch, batch], and which entries join two valid slots."""
    dtype = compute_dtype(a, b)
    a, b = (jnp.where(valid[:, None], x, 0) for x in (a, b))
    cosines = similarity(a, b, dtype, precision)
    return jnp.exp(jnp.asarray(log_scale, dtype)) * cosines, valid[:, None] & valid[None, :]


def similarity(a, b, dtype, precision) -> jax.Array:
    """a b^T; products of bfloat16 are exact in float32, so nothing is cast before."""
    return jnp.einsum("ie,je->ij", a, b, precision=precision, preferred_element_type=dtype)


def compute_dtype(a, b) -> jnp.dtype:
    """float32, or float64 if an embedding is that."""
    return jnp.promote_types(jnp.result_type(a, b), jnp.float32)
