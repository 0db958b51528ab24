"""The random keys that a module's parameters are drawn with."""

import itertools

import jax
import jax.numpy as jnp

_AT_ONCE = 64


class Rngs:
    """The n-th call of `params` gives the n-th key under `key`, the same as that of
    `nnx.Rngs(params=key)`.

    flax's own counts in an array, so that it may go through transformations; inside one, each draw
    then searches all that was traced before. Keys are made many at once: with a hash for each,
    much of the program that begins a run would be hashes.
    """

    def __init__(self, key: jax.Array | int):
        self.key = jax.random.key(key) if isinstance(key, int) else key
        self.drawn = itertools.count()

    def params(self) -> jax.Array:
        number = next(self.drawn)
        if number % _AT_ONCE == 0:
            numbers = jnp.arange(number, number + _AT_ONCE, dtype=jnp.uint32)
            self.keys = jax.vmap(jax.random.fold_in, (None, 0))(self.key, numbers)
        return self.keys[number % _AT_ONCE]
