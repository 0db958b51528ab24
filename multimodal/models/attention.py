"""Scaled dot-product attention: one function, and the module that projects into and out of it."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx

from multimodal.models import attention_backends as backends
from multimodal.models.initializers import BlockInit
from multimodal.models.layers import Linear, dropout
from multimodal.models.rngs import Rngs
from multimodal.parallel.rules import constrain


class Cache(NamedTuple):
    """Keys and values seen so far, [batch, length, heads, head_dim], and how many they are."""

    key: jax.Array
    value: jax.Array
    used: jax.Array


def attention(
    q: jax.Array,  # [batch, queries, heads, head_dim]
    k: jax.Array,  # [batch, keys, heads, head_dim]
    v: jax.Array,  # [batch, keys, heads, head_dim]
    *,
    mask: jax.Array | None = None,  # bool, broadcasts to [batch, heads, queries, keys]
    bias: jax.Array | None = None,  # added to the scores, broadcasts likewise
    causal: bool = False,
    scores: str = "dot",
    backend: str = "auto",
    dropout_rate: float = 0.0,
    key: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array | None]:
    """softmax(Q K^T / sqrt(d_k) + bias) V (Vaswani et al. 2017); `mask` is True where a query may
    look. `scores="cosine"` compares directions only. Scores and softmax are float32.

    Backends: "xla" builds all scores; "blockwise" a tile of them at a time, round a ring of the
    devices along the mesh axis `sequence`; "splash" is a TPU's kernel, "cudnn" an NVIDIA GPU's;
    "auto" chooses by devices and lengths (`attention_backends.choose`).

    Returns [batch, queries, heads, head_dim] and the weights [batch, heads, queries, keys], which
    only XLA forms (None elsewhere); only it has dropout, and beside it only cuDNN has a bias.
    Raises UserError for what a backend does not take.
    """
    plain = bias is not None or (dropout_rate > 0 and key is not None)
    backend = backends.choose(backend, q, k, mask, plain=plain)
    if scores == "cosine":
        q, k = (x * jax.lax.rsqrt(jnp.square(x).sum(-1, keepdims=True) + 1e-12) for x in (q, k))
    scale = 1.0 if scores == "cosine" else 1 / math.sqrt(q.shape[-1])
    if backend != "xla":
        return backends.run(backend, q, k, v, mask, bias, scale=scale, causal=causal), None
    logits = jnp.einsum("bqhd,bkhd->bhqk", q, k, preferred_element_type=jnp.float32) * scale
    if bias is not None:
        logits = logits + bias
    if causal:
        allowed = jnp.tril(jnp.ones((q.shape[1], k.shape[1]), bool), k.shape[1] - q.shape[1])
        mask = allowed if mask is None else mask & allowed
    if mask is not None:
        # Finite, so that a row with nothing to look at gives no NaN.
        logits = jnp.where(mask, logits, -1e30)
    weights = jax.nn.softmax(logits, axis=-1)
    used = dropout(weights, dropout_rate, key).astype(v.dtype)
    return jnp.einsum("bhqk,bkhd->bqhd", used, v), weights


class Attention(nnx.Module):
    """Multi-head attention of `x` to `context` (itself by default)."""

    def __init__(
        self,
        width: int,
        heads: int,
        init: BlockInit,
        *,
        rngs: Rngs,
        causal: bool = False,
        backend: str = "auto",
        dropout_rate: float = 0.0,
        context_width: int | None = None,
    ):
        self.heads, self.causal, self.backend = heads, causal, backend
        self.dropout_rate = dropout_rate
        axes, other = ("embed", "heads"), context_width or width
        for name, size in (("query", width), ("key", other), ("value", other)):
            setattr(self, name, Linear(size, width, axes, init.attention_in, rngs=rngs))
        self.out = Linear(width, width, ("heads", "embed"), init.attention_out, rngs=rngs)

    def __call__(
        self,
        x: jax.Array,  # [batch, queries, embed]
        context: jax.Array | None = None,  # [batch, keys, embed]
        *,
        mask: jax.Array | None = None,
        cache: Cache | None = None,
        key: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array | None, Cache | None]:
        """Output [batch, queries, embed], the attention weights, and the cache with x appended."""
        context = x if context is None else context
        q, k, v = (
            rearrange(y, "b l (h d) -> b l h d", h=self.heads)
            for y in (self.query(x), self.key(context), self.value(context))
        )
        plain = self.dropout_rate > 0 and key is not None
        backend = backends.choose(self.backend, q, k, mask, plain=plain, cached=cache is not None)
        rows = columns = "length"
        if backend == "xla":
            # Of the longer one each device has a part, the shorter one is sent to all. Keys of a
            # cache are whole, as they are written one by one.
            few = cache is None and q.shape[1] < k.shape[1]
            rows, columns = (None, "length") if few else ("length", None)
        q = constrain(q, "batch", rows, "heads", None)
        k, v = (constrain(y, "batch", columns, "heads", None) for y in (k, v))
        causal = self.causal
        if cache is not None:
            k, v = (
                jax.lax.dynamic_update_slice_in_dim(old, new.astype(old.dtype), cache.used, axis=1)
                for old, new in ((cache.key, k), (cache.value, v))
            )
            position = cache.used + jnp.arange(x.shape[1])[:, None]
            seen = jnp.arange(k.shape[1]) <= position  # [queries, keys]
            mask, causal = (seen if mask is None else mask), False
            cache = Cache(k, v, cache.used + x.shape[1])
        y, weights = attention(
            q,
            k,
            v,
            mask=mask,
            causal=causal,
            backend=backend,
            dropout_rate=self.dropout_rate,
            key=key,
        )
        y = constrain(rearrange(y, "b l h d -> b l (h d)"), "batch", rows, "heads")
        return self.out(y), weights, cache
