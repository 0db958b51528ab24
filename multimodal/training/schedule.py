"""The learning rate as a function of the step."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from multimodal.config import Optimizer
from multimodal.errors import UserError

Schedule = Callable[[jax.typing.ArrayLike], jax.Array]


def make_schedule(settings: Optimizer, steps: int) -> Schedule:
    """Learning rate at a step: warm-up, then the shape that `settings.schedule` names.

    With peak p, warm-up w and u = (step - w) / (steps - w), the rate is
        warm-up   p * step / w                            while step < w (so 0 at step 0 if w > 0)
        cosine    p * (f + (1 - f) * (1 + cos(pi u)) / 2)     f: `final_fraction`
        linear    p * (1 - (1 - f) * u)
        rsqrt     p * sqrt(T / (T + step - w))                T: `rsqrt_timescale`
        constant  p
    times min(1, (steps - step) / cooldown_steps) if there is a cool-down (Zhai et al. 2022,
    "Scaling Vision Transformers", for rsqrt and cool-down). Steps count from 0; beyond `steps`
    the rate stays where it is then. Raises UserError if warm-up and cool-down do not fit.
    """
    peak, warmup, cooldown = settings.learning_rate, settings.warmup_steps, settings.cooldown_steps
    if min(warmup, cooldown) < 0 or warmup + cooldown > steps:
        raise UserError(
            f"config.optimizer: warmup_steps={warmup} and cooldown_steps={cooldown} do not fit into"
            f" config.steps={steps}; shorten them or train longer"
        )
    decay_steps = max(1, steps - warmup)
    if settings.schedule == "cosine":
        decay = optax.cosine_decay_schedule(peak, decay_steps, alpha=settings.final_fraction)
    elif settings.schedule == "linear":
        decay = optax.linear_schedule(peak, peak * settings.final_fraction, decay_steps)
    elif settings.schedule == "rsqrt":
        timescale = settings.rsqrt_timescale

        def decay(step):
            return peak * jnp.sqrt(timescale / (timescale + jnp.clip(step, 0, decay_steps)))
    else:
        decay = optax.constant_schedule(peak)

    def schedule(step: jax.typing.ArrayLike) -> jax.Array:
        rate = jnp.asarray(decay(jnp.maximum(jnp.asarray(step) - warmup, 0)), jnp.float32)
        if warmup:
            rate = jnp.where(step < warmup, peak * step / warmup, rate)
        if cooldown:
            rate = rate * jnp.clip((steps - step) / cooldown, 0.0, 1.0)
        return rate

    return schedule
