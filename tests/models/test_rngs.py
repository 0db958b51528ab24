"""Keys against those of flax's own `nnx.Rngs`: a seed means the same parameters with either."""

import jax
import numpy as np
from flax import nnx

from multimodal.models.rngs import Rngs

DRAWS = 150  # more than are made at once, twice


def keys_of(rngs):
    return [jax.random.key_data(rngs.params()) for _ in range(DRAWS)]


def test_the_keys_of_flax_in_their_order():
    wanted = np.stack(keys_of(nnx.Rngs(params=jax.random.key(7))))
    assert len(np.unique(wanted, axis=0)) == DRAWS
    np.testing.assert_array_equal(keys_of(Rngs(jax.random.key(7))), wanted)
    np.testing.assert_array_equal(keys_of(Rngs(7)), wanted)


def test_the_same_inside_transformations():
    seeds = jax.random.split(jax.random.key(0), 3)
    found = jax.jit(jax.vmap(lambda key: keys_of(Rngs(key))))(seeds)
    wanted = [keys_of(nnx.Rngs(params=key)) for key in seeds]
    np.testing.assert_array_equal(np.swapaxes(found, 0, 1), wanted)
