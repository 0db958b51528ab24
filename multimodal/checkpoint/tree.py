"""A state as names and arrays: flat, by path, and what differs between two."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def flatten(tree: Any) -> dict[str, Any]:
    """Leaves by path, such as `params/image/patch/kernel` or `opt_state/0/count`.

    Raises TypeError for a leaf that is not a plain array and ValueError when two paths agree.
    """
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    named = {jax.tree_util.keystr(path, simple=True, separator="/"): x for path, x in leaves}
    if len(named) < len(leaves):
        raise ValueError("two parts of the state have the same path; rename one")
    for name, leaf in named.items():
        if not hasattr(leaf, "shape") or jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            raise TypeError(f"{name}: an array is needed (for a key, jax.random.key_data of it)")
    return named


def abstract(leaf: Any) -> list:
    """`[shape, dtype]` of an array, as JSON."""
    return [list(leaf.shape), jnp.dtype(leaf.dtype).name]


def replicated(shape: list[int], dtype: str) -> jax.ShapeDtypeStruct:
    """An array to be read whole onto every device."""
    mesh = Mesh(np.asarray(jax.devices()), ("all",))
    sharding = NamedSharding(mesh, PartitionSpec())
    return jax.ShapeDtypeStruct(shape, jnp.dtype(dtype), sharding=sharding)


def misfits(saved: dict[str, list], wanted: dict[str, list]) -> list[str]:
    """One sentence for each tensor that is missing, left over, or of another shape or dtype."""
    trouble = []
    for name, (shape, dtype) in wanted.items():
        if name not in saved:
            trouble.append(f"{name} {tuple(shape)} is wanted but was not saved")
        elif saved[name][0] != shape:
            trouble.append(
                f"{name} was saved with shape {tuple(saved[name][0])}, not {tuple(shape)}"
            )
        elif saved[name][1] != dtype:
            trouble.append(f"{name} was saved as {saved[name][1]}, not {dtype}")
    trouble += [f"{name} was saved but has no place" for name in saved.keys() - wanted.keys()]
    return trouble
