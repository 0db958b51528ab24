"""Attention by the TPU kernel "splash" of jax, whose scores never leave the chip."""

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu import splash_attention as kernels


def splash(
    q: jax.Array,  # [batch, queries, heads, head_dim], scaled
    k: jax.Array,  # [batch, keys, heads, head_dim]
    v: jax.Array,  # [batch, keys, heads, head_dim]
    mask: jax.Array | None,  # bool, [batch or 1, 1, 1, keys]
    causal: bool,
    interpret: bool = False,
) -> jax.Array:
    """softmax(Q K^T) V on one device, [batch, queries, heads, head_dim].

    Lengths are padded to whole blocks. Where `mask` leaves nothing to look at, all keys are seen.
    `interpret` computes the same without a TPU, slowly.
    """
    batch, queries, heads, _ = q.shape
    keys = k.shape[1]
    rows, columns = _block(queries), _block(keys)
    padded = queries + -queries % rows, keys + -keys % columns
    kind = kernels.CausalMask if causal else kernels.FullMask
    options = {"offset": keys - queries} if causal else {}
    kernel = kernels.make_splash_mha_single_device(
        kernels.MultiHeadMask([kind(padded, **options)] * heads),
        # One kernel for all gradients would keep a whole one of the queries for each block of keys.
        block_sizes=kernels.BlockSizes(
            block_q=rows,
            block_kv=columns,
            block_q_dkv=rows,
            block_kv_dkv=columns,
            block_q_dq=rows,
            block_kv_dq=columns,
        ),
        interpret=interpret,
    )
    segments = None
    if mask is not None or padded[1] > keys:
        real = jnp.ones((batch, keys), bool)
        if mask is not None:
            real = jnp.broadcast_to(mask[:, 0, 0], real.shape)
            real |= ~real.any(-1, keepdims=True)
        real = jnp.pad(real, [(0, 0), (0, padded[1] - keys)]).astype(jnp.int32)
        segments = kernels.SegmentIds(jnp.ones((batch, padded[0]), jnp.int32), real)
    q, k, v = (
        jnp.pad(x.swapaxes(1, 2), [(0, 0), (0, 0), (0, size - x.shape[1]), (0, 0)])
        for x, size in ((q, padded[0]), (k, padded[1]), (v, padded[1]))
    )
    return jax.vmap(kernel)(q, k, v, segments)[:, :, :queries].swapaxes(1, 2)


def _block(length: int) -> int:
    """The block that takes the least padding; of equals the largest."""
    return min((512, 384, 256), key=lambda block: -length % block)
