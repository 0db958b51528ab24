"""Contrastive losses of two towers: softmax (CLIP) and sigmoid (SigLIP), each in three forms.

The forms differ in memory and traffic only, never in value: "dense" builds the whole matrix of
logits and is the oracle; "chunked" walks over it in tiles on one device (on a mesh, every device
gathers all embeddings and does all the work); "ring" keeps every device's rows at home and sends
chunks of columns round the devices of the mesh: the form for training on several devices.

Each example matches itself, and with `ids` all that share its id: captions of one class are then no
false negatives of each other (SupCon, arXiv:2004.11362; UniCL, arXiv:2204.03610).
"""

import dataclasses

import jax
import jax.numpy as jnp

from multimodal.errors import UserError
from multimodal.objectives import contrastive_dense as dense
from multimodal.objectives.contrastive_ring import Ring
from multimodal.objectives.contrastive_sigmoid import fused_sigmoid_loss
from multimodal.objectives.contrastive_softmax import fused_softmax_loss
from multimodal.parallel.rules import BATCH

FORMS = ("dense", "chunked", "ring")


def softmax_loss(
    a: jax.Array,
    b: jax.Array,
    log_scale: jax.Array,
    *,
    valid: jax.Array | None = None,
    ids: jax.Array | None = None,
    smoothing: float = 0.0,
    form: str = "dense",
    chunk: int | None = None,
    axes: tuple[str, ...] = BATCH,
    precision: jax.lax.PrecisionLike = jax.lax.Precision.HIGHEST,
) -> jax.Array:
    """Mean of the cross entropies a -> b and b -> a over the batch (CLIP, arXiv:2103.00020).

    logits[i, j] = exp(log_scale) a[i].b[j], and row i's match is column i; with `ids` its matches
    are all columns of its id, over which its target is uniform. Rows and columns that are not
    valid take no part, and the mean is over the valid ones; 0 if there are none.

    Args:
      a, b: L2-normalised embeddings of the two towers [batch, embed], float32 or bfloat16
        (float64 works too); global arrays with the batch sharded over `axes`.
      log_scale: natural log of the multiplier of the cosines, a scalar.
      valid: [batch] bool, False for slots to leave out; None if all take part.
      ids: integers [batch] or [batch, parts], equal for examples that match each other; None if
        each matches itself alone.
      smoothing: share of each target that is spread over all columns that take part.
      form: "dense", "chunked" or "ring". The ring takes its devices from the mesh in use
        (`jax.set_mesh`); with no mesh, or one device along `axes`, it is the chunked form.
      chunk: rows and columns at a time in the chunked and ring forms; None for a size that
        suits the device.
      axes: mesh axes that shard the batch, for the ring.
      precision: of the products of embeddings.

    Returns: float32 scalar (float64 if an embedding is float64).
    Raises UserError for an unknown form, unequal shapes, or a batch that the ring cannot split.
    """
    log_scale = jnp.asarray(log_scale)
    valid, ids = _check(a, b, (log_scale,), valid, ids, form, chunk)
    if form == "dense":
        return dense.softmax_loss(a, b, log_scale, valid, ids, precision, smoothing)
    ring = _ring(form, chunk, axes, a.shape[0])
    loss = fused_softmax_loss(ring, precision, 1 - smoothing, a, b, log_scale, valid, ids)
    return loss - smoothing * dense.mean_logit(a, b, log_scale, valid) if smoothing else loss


def sigmoid_loss(
    a: jax.Array,
    b: jax.Array,
    log_scale: jax.Array,
    bias: jax.Array,
    *,
    valid: jax.Array | None = None,
    ids: jax.Array | None = None,
    form: str = "dense",
    chunk: int | None = None,
    axes: tuple[str, ...] = BATCH,
    precision: jax.lax.PrecisionLike = jax.lax.Precision.HIGHEST,
) -> jax.Array:
    """Mean over rows of the sum over columns of -log sigmoid(z l) (SigLIP, arXiv:2303.15343).

    l[i, j] = exp(log_scale) a[i].b[j] + bias; z is 1 where i = j, or the ids are equal, and -1
    elsewhere. Pairs with a row or column that is not valid are left out, and the mean is over
    valid rows.

    `bias` is a scalar; all else as in `softmax_loss`.
    """
    log_scale, bias = jnp.asarray(log_scale), jnp.asarray(bias)
    valid, ids = _check(a, b, (log_scale, bias), valid, ids, form, chunk)
    if form == "dense":
        return dense.sigmoid_loss(a, b, log_scale, bias, valid, ids, precision)
    ring = _ring(form, chunk, axes, a.shape[0])
    return fused_sigmoid_loss(ring, precision, a, b, log_scale, bias, valid, ids)


def _check(a, b, scalars, valid, ids, form, chunk) -> tuple[jax.Array, jax.Array | None]:
    """Refuses what cannot be right; returns `valid`, all True when it was None, and `ids` as
    [batch, parts]."""
    if form not in FORMS:
        raise UserError(f"contrastive loss: form {form!r} is unknown; use one of {FORMS}")
    if a.ndim != 2 or a.shape != b.shape:
        raise UserError(
            f"contrastive loss: embeddings must both be [batch, embed], got {a.shape} and "
            f"{b.shape}; give both towers the same output width and one row an example"
        )
    if any(x.ndim for x in scalars):
        raise UserError(
            "contrastive loss: log scale and bias must be scalars, got shapes "
            f"{[x.shape for x in scalars]}; reshape them to ()"
        )
    if chunk is not None and chunk < 1:
        raise UserError(f"contrastive loss: chunk={chunk} must be at least 1, or None")
    if ids is not None and (ids.ndim not in (1, 2) or ids.shape[:1] != a.shape[:1]):
        raise UserError(
            f"contrastive loss: ids have shape {ids.shape}; they must be {a.shape[:1]} or "
            f"{(*a.shape[:1], 'parts')}, one row a row of the embeddings"
        )
    ids = None if ids is None else jnp.reshape(ids, (len(ids), -1))
    if valid is None:
        return jnp.ones(a.shape[:1], bool), ids
    if valid.shape != a.shape[:1]:
        raise UserError(
            f"contrastive loss: valid has shape {valid.shape}; it must be {a.shape[:1]}, "
            "one flag a row of the embeddings"
        )
    return valid.astype(bool), ids


def _ring(form: str, chunk: int | None, axes: tuple[str, ...], batch: int) -> Ring:
    """The ring of the mesh in use; of a single device for the chunked form."""
    ring = Ring()
    if form == "ring":
        ring = Ring.of_mesh(jax.sharding.get_abstract_mesh(), axes)
    if batch % ring.size:
        raise UserError(
            f"contrastive loss: a batch of {batch} does not divide over the {ring.size} devices "
            f"along {ring.axes}; change the batch or the mesh, or use form='chunked'"
        )
    return dataclasses.replace(ring, tile=chunk, chunk=chunk) if chunk else ring
