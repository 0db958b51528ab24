"""Parameters that live in parts, spread over all devices that hold examples: gathered where they
are used, and their gradients added up straight into the parts (ZeRO, arXiv:1910.02054).

Written out with `shard_map`, because left to the compiler the gradients of a scanned stack are
added up on every device, in float32, before each keeps its share.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import PartitionSpec

from multimodal.errors import UserError
from multimodal.parallel.rules import BATCH

Tree = Any
GATHERED = "gathered"  # the name, for rematerialisation, of what was gathered


@dataclasses.dataclass(frozen=True)
class Gather:
    """How parameters travel: matrices in `dtype` and their gradients in `reduce`, vectors in
    float32. `keep`: what is gathered in the forward pass stays for the backward pass."""

    dtype: str
    reduce: str
    keep: bool


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Part:
    """This device's part of a parameter, inside of `spread`.

    `dims`: which dimension, counted from the last, is split over which mesh axis, in the order of
    gathering. One axis at a time: TPUs scatter the sum over a line of devices, but over a plane of
    them add up whole arrays and cut.
    """

    value: jax.Array
    dims: tuple[tuple[int, str], ...] = dataclasses.field(metadata={"static": True})
    settings: Gather = dataclasses.field(metadata={"static": True})


def spread(
    function: Callable,
    settings: Gather,
    specs: Mapping[str, PartitionSpec],
    in_layers: frozenset[str],
) -> Callable:
    """`function(params, batch, key)` as every device runs it on its own examples.

    Parameters arrive gathered, but for those `in_layers`, which are `Part`s for a stack to gather
    layer by layer. Outputs hold one row an example, or are scalars that depend on none. A device's
    random numbers are its own, so that they change with the number of devices.
    """

    def local(params: Mapping[str, jax.Array], batch: Tree, key: jax.Array | None) -> Tree:
        if key is not None:
            key = jax.random.fold_in(key, jax.lax.axis_index(BATCH))
        given = {path: part(x, specs[path], settings) for path, x in params.items()}
        given = {path: x if path in in_layers else whole(x) for path, x in given.items()}
        return function(given, batch, key)

    def run(params: Mapping[str, jax.Array], batch: Tree, key: jax.Array | None) -> Tree:
        outputs = jax.eval_shape(function, params, batch, key)
        _check(outputs, len(batch["valid"]))
        by_rows = lambda x: PartitionSpec(BATCH) if x.ndim else PartitionSpec()  # noqa: E731
        return jax.shard_map(
            local,
            in_specs=(
                {path: PartitionSpec(*by_examples(specs[path])) for path in params},
                jax.tree.map(by_rows, batch),
                None if key is None else PartitionSpec(),
            ),
            out_specs=jax.tree.map(by_rows, outputs),
            axis_names=set(BATCH),
        )(params, batch, key)

    return run


def _check(outputs: Tree, batch: int) -> None:
    for path, x in jax.tree.leaves_with_path(outputs):
        if x.ndim and x.shape[0] != batch:
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            raise UserError(
                "config.gather: only 'compiler' works for this model, whose output "
                f"{name} {x.shape} has no row for each example"
            )


def part(x: jax.Array, spec: PartitionSpec, settings: Gather) -> Part | jax.Array:
    """A local array as a part; one that is whole everywhere stays an array."""
    split = enumerate(by_examples(spec))
    dims = tuple((dim - x.ndim, axis) for dim, axes in split for axis in reversed(axes))
    return Part(x, dims, settings) if dims else x


def by_examples(spec: PartitionSpec) -> list[tuple[str, ...]]:
    """For each dimension, the mesh axes that hold examples; others are left to the compiler."""
    entries = [(axes,) if isinstance(axes, str) else axes or () for axes in spec]
    return [tuple(axis for axis in axes if axis in BATCH) for axes in entries]


def whole(tree: Tree) -> Tree:
    """The tree with every `Part` gathered; gradients go back into the parts."""
    return jax.tree.map(_whole, tree, is_leaf=_is_part)


def kept(policy: Callable | None, tree: Tree) -> Callable | None:
    """A rematerialisation policy (None: keep everything) that says the same of all but what is
    gathered from parts in `tree`, of which their own settings decide."""
    found = [x for x in jax.tree.leaves(tree, is_leaf=_is_part) if _is_part(x)]
    if not found:
        return policy
    keep, names = found[0].settings.keep, jax.checkpoint_policies
    if policy is None:
        return None if keep else names.save_anything_except_these_names(GATHERED)
    if not keep:
        return policy
    return names.save_from_both_policies(policy, names.save_only_these_names(GATHERED))


def _is_part(x: Any) -> bool:
    return isinstance(x, Part)


def _whole(x: Any) -> Any:
    if not _is_part(x):
        return x
    s = x.settings
    matrix = x.value.ndim > 1
    dtype, reduce = (s.dtype, s.reduce) if matrix else ("float32", "float32")
    return checkpoint_name(_gather(x.value, x.dims, dtype, reduce), GATHERED)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _gather(x: jax.Array, dims: tuple, dtype: str, reduce: str) -> jax.Array:
    x = x.astype(dtype)
    for dim, axis in dims:
        dim += x.ndim
        rows = jax.lax.all_gather(_in_lanes(x), axis)
        rows = jnp.moveaxis(rows.reshape(-1, *x.shape), 0, dim)
        x = rows.reshape(*x.shape[:dim], -1, *x.shape[dim + 1 :])
    return jax.lax.pcast(x, _rest(dims), to="varying") if _rest(dims) else x


def _forward(x, dims, dtype, reduce):
    return _gather(x, dims, dtype, reduce), None


def _backward(dims, dtype, reduce, _, gradient):
    return (scatter(gradient, dims, reduce),)


_gather.defvjp(_forward, _backward)


def scatter(gradient: jax.Array, dims: tuple, reduce: str) -> jax.Array:
    """Each device's part of the sum of all devices' gradients, float32."""
    x, mesh = gradient.astype(reduce), jax.sharding.get_abstract_mesh()
    if mesh.abstract_device and mesh.abstract_device.device_kind == "cpu":
        x = x.astype(jnp.float32)  # rounded like elsewhere; XLA for CPU cannot add up bfloat16
    for dim, axis in reversed(dims):
        dim += x.ndim
        shards = mesh.shape[axis]
        rows = x.reshape(*x.shape[:dim], shards, -1, *x.shape[dim + 1 :])
        rows = jnp.moveaxis(rows, dim, 0)
        local = rows.shape[1:]
        x = jax.lax.psum_scatter(_in_lanes(rows, shards), axis).reshape(local)
    if rest := _rest(dims):
        x = jax.lax.psum(x, rest)
    return x.astype(jnp.float32)


def _in_lanes(x: jax.Array, *leading: int) -> jax.Array:
    """The same numbers as [*leading, rows, 128], if they fill rows: TPUs gather and scatter parts
    that do not fill their tiles by adding up whole arrays, at twice the traffic."""
    lanes = (128,) if x.size % (128 * math.prod(leading)) == 0 else ()
    return x.reshape(*leading, -1, *lanes)


def _rest(dims: tuple) -> tuple[str, ...]:
    """The axes that hold examples over which a part is the same everywhere."""
    split = {axis for _, axis in dims}
    mesh = jax.sharding.get_abstract_mesh()
    return tuple(axis for axis in BATCH if axis in mesh.shape and axis not in split)
