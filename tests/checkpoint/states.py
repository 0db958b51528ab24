"""States of every kind of leaf, to save and to compare."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec

META = {
    "positions": {"pairs": 1234, "words": 0},
    "config": {"name": "toy", "steps": 10, "rate": 1e-3, "ema": None, "sizes": [1, 2]},
    "preprocessing": {"mean": [0.5, 0.25, 0.125], "lowercase": True},
    "versions": {"jax": jax.__version__},
}


class State(NamedTuple):
    step: Any
    params: Any
    opt_state: Any
    ema: Any = None
    key: Any = None


def make_state(mesh, seed: int = 0, ema: bool = True, width: int = 16) -> State:
    rng = np.random.default_rng(seed)
    params = {
        "image": {"kernel": rng.normal(size=(8, width)), "bias": rng.normal(size=(width,))},
        "text": {"embed": rng.normal(size=(2, 8, width))},
        "scale": np.float32(rng.normal()),
        "none": np.zeros((0, 8)),
    }
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)
    params["text"]["embed"] = params["text"]["embed"].astype(jnp.bfloat16)
    mask = {"image": True, "text": False, "scale": True, "none": True}
    adam = optax.adamw(1e-3, mask=mask)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), adam)
    opt_state = optimizer.init(params)
    opt_state = jax.tree.map(lambda x: x + jnp.asarray(rng.integers(1, 9), x.dtype), opt_state)
    average = jax.tree.map(lambda x: x * 2, params) if ema else None
    key = jax.random.PRNGKey(seed + 7)
    state = State(jnp.int32(5), params, opt_state, average, key)
    return jax.tree.map(lambda x: jax.device_put(x, place(mesh, x)), state)


def place(mesh, x) -> NamedSharding:
    if x.ndim < 2 or x.shape[-2] == 0:
        return NamedSharding(mesh, PartitionSpec())
    spec = ("tensor", "fsdp") if mesh.shape["tensor"] > 1 else ("fsdp", None)
    return NamedSharding(mesh, PartitionSpec(*[None] * (x.ndim - 2), *spec))


def target_of(state: State, mesh) -> State:
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place(mesh, x)), state
    )


def bits(tree) -> list[tuple]:
    leaves, structure = jax.tree.flatten(jax.tree.map(np.asarray, tree))
    return [structure, *((x.dtype.name, x.shape, x.tobytes()) for x in leaves)]
