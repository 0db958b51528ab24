"""The contrastive losses written out over the whole matrix of logits: the oracle of the rest."""

import functools

import jax
import jax.numpy as jnp

MASKED = -1e30  # instead of -inf, whose differences are NaN


def softmax_loss(a, b, log_scale, valid, ids, precision, smoothing=0.0) -> jax.Array:
    """See `contrastive.softmax_loss`; `valid` [batch] bool, `ids` [batch, parts] or None."""
    logits, both = _logits(a, b, log_scale, valid, precision)  # [batch, batch]
    logits = jnp.where(both, logits, MASKED)
    rows = jax.nn.logsumexp(logits, axis=1)
    columns = jax.nn.logsumexp(logits, axis=0)
    # Both ways the mean over an example's matches, of which its row and its column have as many.
    same = both & matches(valid, ids)
    same, both = same.astype(logits.dtype), both.astype(logits.dtype)
    target = (1 - smoothing) * same / jnp.maximum(same.sum(1, keepdims=True), 1)
    target += smoothing * both / jnp.maximum(valid.sum(), 1)
    rows, columns = rows - (target * logits).sum(1), columns - (target.T * logits.T).sum(1)
    return jnp.sum(jnp.where(valid, rows + columns, 0)) / (2 * jnp.maximum(valid.sum(), 1))


def sigmoid_loss(a, b, log_scale, bias, valid, ids, precision) -> jax.Array:
    """See `contrastive.sigmoid_loss`; `valid` [batch] bool, `ids` [batch, parts] or None."""
    logits, both = _logits(a, b, log_scale, valid, precision)
    signs = jnp.where(matches(valid, ids), 1, -1).astype(logits.dtype)
    losses = -jax.nn.log_sigmoid(signs * (logits + jnp.asarray(bias, logits.dtype)))
    return jnp.sum(jnp.where(both, losses, 0)) / jnp.maximum(valid.sum(), 1)


def mean_logit(a, b, log_scale, valid) -> jax.Array:
    """Mean over all pairs of valid slots: that of two means, with no matrix."""
    dtype, count = compute_dtype(a, b), jnp.maximum(valid.sum(), 1)
    means = [jnp.where(valid[:, None], x, 0).sum(0, dtype=dtype) / count for x in (a, b)]
    return jnp.exp(jnp.asarray(log_scale, dtype)) * jnp.vdot(*means, precision="highest")


def _logits(a, b, log_scale, valid, precision):
    """exp(log_scale) a b^T [batch, batch], and which entries join two valid slots."""
    dtype = compute_dtype(a, b)
    a, b = (jnp.where(valid[:, None], x, 0) for x in (a, b))
    cosines = similarity(a, b, dtype, precision)
    return jnp.exp(jnp.asarray(log_scale, dtype)) * cosines, valid[:, None] & valid[None, :]


def matches(valid, ids) -> jax.Array:
    """[batch, batch] bool: the diagonal, or where all parts of the ids are equal."""
    if ids is None:
        return jnp.eye(len(valid), dtype=bool)
    return equal(ids, ids)


def equal(row_ids, column_ids) -> jax.Array:
    """[rows, columns] bool: where all parts of two ids [.., parts] are equal."""
    parts = range(row_ids.shape[1])  # one by one: no array has a third dimension
    return functools.reduce(
        jnp.logical_and, [row_ids[:, None, i] == column_ids[None, :, i] for i in parts]
    )


def similarity(a, b, dtype, precision) -> jax.Array:
    """a b^T; products of bfloat16 are exact in float32, so nothing is cast before."""
    return jnp.einsum("ie,je->ij", a, b, precision=precision, preferred_element_type=dtype)


def compute_dtype(a, b) -> jnp.dtype:
    """float32, or float64 if an embedding is that."""
    return jnp.promote_types(jnp.result_type(a, b), jnp.float32)
