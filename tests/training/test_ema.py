import jax
import jax.numpy as jnp
import numpy as np

from multimodal.training import ema


def test_average_follows_its_closed_form_through_the_warmup():
    decay, steps = 0.7, 40  # (1 + t) / (10 + t) passes 0.7 at t = 20
    params = np.random.default_rng(0).normal(size=(steps, 5, 3))
    start = np.ones((5, 3))
    keep = [min(decay, (1 + t) / (10 + t)) for t in range(steps)]
    wanted = start * np.prod(keep)
    for t in range(steps):
        wanted = wanted + params[t] * (1 - keep[t]) * np.prod(keep[t + 1 :])
    average = ema.init({"a/kernel": jnp.asarray(start)})
    update = jax.jit(ema.update, static_argnums=2)
    for t in range(steps):
        average = update(average, {"a/kernel": jnp.asarray(params[t])}, decay, t)
    np.testing.assert_allclose(average["a/kernel"], wanted, rtol=1e-5, atol=1e-6)


def test_average_of_bfloat16_parameters_is_float32():
    params = {"a": jnp.ones(3, jnp.bfloat16)}
    average = ema.init(params)
    later = ema.update(average, {"a": jnp.full(3, 2.0, jnp.bfloat16)}, 0.999, 10**6)
    assert average["a"].dtype == later["a"].dtype == jnp.float32
    np.testing.assert_allclose(later["a"], 1.001, rtol=1e-6)  # bfloat16 would stay at 1


def test_start_is_a_copy_that_survives_donation():
    params = {"a": jnp.arange(8.0)}
    average = ema.init(params)
    jax.jit(lambda p: {"a": p["a"] + 1}, donate_argnums=0)(params)
    np.testing.assert_array_equal(average["a"], np.arange(8.0))
