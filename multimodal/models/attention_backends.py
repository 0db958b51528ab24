"""Which way attention is computed, and how devices share in it."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from multimodal.errors import UserError
from multimodal.models.attention_blockwise import blockwise
from multimodal.models.attention_splash import splash
from multimodal.parallel.rules import RULES, devices_along, mapped, on_shares, shared

# Queries x keys up to which all scores are built at once by default.
SHORT = 512 * 512
ARRAY = ("batch", "length", "heads", None)


def choose(
    wanted: str,
    q: jax.Array,  # [batch, queries, heads, head_dim]
    k: jax.Array,  # [batch, keys, heads, head_dim]
    mask: jax.Array | None,
    *,
    plain: bool,
    cached: bool = False,
) -> str:
    """The backend for these arrays on the devices of the mesh, unless `wanted` names one.

    "auto" is "xla" for short lengths; for long ones "splash" on a TPU, and "blockwise" elsewhere or
    for what splash does not take; "cudnn" on a GPU from 128 tokens on, where it takes the arrays.
    Bias and dropout (`plain`), and a cache on devices that share the length, are for XLA. Inside of
    a shard_map there is no kernel, and where devices are left to share heads or length, XLA.
    """
    if cached and devices_along("length") > 1:
        return "xla"
    if wanted != "auto":
        return wanted
    if mapped() and shared():
        return "xla"
    queries, keys, head_dim = q.shape[1], k.shape[1], q.shape[3]
    by_heads = q.shape[2] % (devices_along("heads") * devices_along("length")) == 0
    platform = _platform()
    if plain:
        return "xla"
    if platform == "gpu" and by_heads and min(queries, keys) >= 128:
        half = q.dtype in (jnp.bfloat16, jnp.float16)
        even = mask is None or queries % 2 == keys % 2 == 0
        if half and even and head_dim % 8 == 0 and head_dim <= 128:
            return "cudnn"
    if queries * keys <= SHORT:
        return "xla"
    kernel = platform == "tpu" and by_heads and _of_keys(mask) and not mapped()
    return "splash" if kernel else "blockwise"


def run(
    backend: str,
    q: jax.Array,  # [batch, queries, heads, head_dim]
    k: jax.Array,  # [batch, keys, heads, head_dim]
    v: jax.Array,  # [batch, keys, heads, head_dim]
    mask: jax.Array | None,  # bool, broadcasts to [batch, heads, queries, keys]
    bias: jax.Array | None,
    *,
    scale: float,
    causal: bool,
) -> jax.Array:
    """Attention by `backend`, one of those that build no scores, on the devices of the mesh:
    [batch, queries, heads, head_dim]. Raises UserError for what the backend does not take."""
    if backend == "cudnn":
        local = functools.partial(_cudnn, scale=scale, causal=causal)
        if bias is not None or devices_along("length") == 1:
            return local(q, k, v, mask, bias)
        return _by_heads(local, q, k, v, _rank4(mask), backend)
    _check(bias is None, f"attention={backend!r} takes no bias; 'xla' does")
    _check(
        not mapped() or (backend == "blockwise" and not shared()),
        f"attention={backend!r}: a shard_map inside of another has no gradient here; set "
        "config.gather='compiler' or attention='auto'",
    )
    q, mask = (q.astype(jnp.float32) * scale).astype(q.dtype), _rank4(mask)
    if backend == "splash":
        _check(
            _of_keys(mask),
            "attention='splash' takes masks of keys alone, the same for all heads and queries; "
            "'blockwise' takes any",
        )
        return _by_heads(functools.partial(splash, causal=causal), q, k, v, mask, backend)
    _check_lengths(q, k, backend)
    axis = RULES["length"][0] if devices_along("length") > 1 else None
    local = lambda *args: blockwise(*args, causal, axis)  # noqa: E731
    axes = (ARRAY,) * 3 + (("batch", "heads", "length", None),)
    return on_shares(local, axes, q, k, v, mask)


def _cudnn(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    mask: jax.Array | None,
    bias: jax.Array | None = None,
    *,
    scale: float,
    causal: bool,
) -> jax.Array:
    # It broadcasts over batch and heads alone, not over queries.
    whole = (q.shape[1], k.shape[1])
    mask, bias = (
        None if x is None else jnp.broadcast_to(x, (*x.shape[:-2], *whole)) for x in (mask, bias)
    )
    return jax.nn.dot_product_attention(
        q, k, v, bias, mask, scale=scale, is_causal=causal, implementation="cudnn"
    )


def _by_heads(
    local: Callable,
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    mask: jax.Array | None,
    backend: str,
) -> jax.Array:
    """`local(q, k, v, mask)` on every device. Devices that share the length are each given all of
    it and a part of the heads instead, and give it back (Jacobs et al. 2023, DeepSpeed Ulysses)."""
    ring, heads, function = devices_along("length"), q.shape[2] // devices_along("heads"), local
    if ring > 1:
        _check_lengths(q, k, backend)
        _check(
            heads % ring == 0,
            f"attention={backend!r}: the {heads} heads of a device do not divide over "
            f"config.mesh.sequence={ring}; 'blockwise' splits no heads",
        )
        swap = functools.partial(jax.lax.all_to_all, axis_name=RULES["length"][0], tiled=True)

        def function(q, k, v, mask):
            q, k, v = (swap(x, split_axis=2, concat_axis=1) for x in (q, k, v))
            return swap(local(q, k, v, mask), split_axis=1, concat_axis=2)

    axes = (ARRAY,) * 3 + (("batch", None, None, None),)
    return on_shares(function, axes, q, k, v, mask, check=False)


def _check_lengths(q: jax.Array, k: jax.Array, backend: str) -> None:
    ring = devices_along("length")
    for length in (q.shape[1], k.shape[1]):
        _check(
            length % ring == 0,
            f"attention={backend!r} over {length} tokens: they do not divide over "
            f"config.mesh.sequence={ring}; change the number of tokens (a class token is one) or "
            "of devices, or set attention='xla', which sends all keys to each of them",
        )


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise UserError(message)


def _rank4(mask: jax.Array | None) -> jax.Array | None:
    return None if mask is None else jnp.reshape(mask, (1,) * (4 - jnp.ndim(mask)) + mask.shape)


def _of_keys(mask: jax.Array | None) -> bool:
    """Are the same keys hidden from all heads and queries?"""
    return mask is None or set(mask.shape[-3:-1]) <= {1}


def _platform() -> str:
    """Of the devices that are compiled for; "cpu" for a GPU that is not there, as cuDNN is asked
    what it takes while a program is traced."""
    here, device = jax.default_backend(), jax.sharding.get_abstract_mesh().abstract_device
    if device is None:
        return here
    if device.device_kind.startswith("TPU"):
        return "tpu"
    return "gpu" if here == "gpu" and device.device_kind != "cpu" else "cpu"
