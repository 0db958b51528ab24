import math

import jax
import numpy as np
import pytest

from multimodal.config import Optimizer
from multimodal.errors import UserError
from multimodal.training.schedule import make_schedule

PEAK, STEPS, WARMUP, FINAL, TIMESCALE = 3e-3, 100, 20, 0.1, 25


def closed_form(kind: str, step: int, warmup: int = WARMUP) -> float:
    if step < warmup:
        return PEAK * step / warmup
    progress = (min(step, STEPS) - warmup) / (STEPS - warmup)
    return (
        PEAK
        * {
            "cosine": FINAL + (1 - FINAL) * (1 + math.cos(math.pi * progress)) / 2,
            "linear": 1 - (1 - FINAL) * progress,
            "rsqrt": math.sqrt(TIMESCALE / (TIMESCALE + progress * (STEPS - warmup))),
            "constant": 1.0,
        }[kind]
    )


def settings(kind: str = "cosine", **changes) -> Optimizer:
    given = {"warmup_steps": WARMUP, "final_fraction": FINAL, "rsqrt_timescale": TIMESCALE}
    return Optimizer(learning_rate=PEAK, schedule=kind, **given | changes)


@pytest.mark.parametrize("kind", ["cosine", "linear", "rsqrt", "constant"])
@pytest.mark.parametrize("warmup", [0, WARMUP])
def test_every_step_follows_the_closed_form_and_stays_after_the_end(kind, warmup):
    schedule = jax.jit(make_schedule(settings(kind, warmup_steps=warmup), STEPS))
    rates = [float(schedule(step)) for step in range(STEPS + 5)]
    wanted = [closed_form(kind, step, warmup) for step in range(STEPS + 5)]
    np.testing.assert_allclose(rates, wanted, rtol=2e-6, atol=1e-9)
    assert rates[warmup] == pytest.approx(PEAK)  # without warm-up step 0 is not wasted


def test_cosine_and_linear_end_at_the_final_fraction():
    for kind in ("cosine", "linear"):
        assert float(make_schedule(settings(kind), STEPS)(STEPS)) == pytest.approx(FINAL * PEAK)


def test_cooldown_goes_to_zero_over_the_last_steps():
    schedule = make_schedule(settings("rsqrt", cooldown_steps=10), STEPS)
    for step in (50, 90):
        assert float(schedule(step)) == pytest.approx(closed_form("rsqrt", step))
    assert float(schedule(95)) == pytest.approx(closed_form("rsqrt", 95) / 2)
    assert float(schedule(STEPS)) == 0.0


def test_warmup_may_fill_the_run_but_not_exceed_it():
    whole = make_schedule(settings(warmup_steps=STEPS), STEPS)
    assert float(whole(STEPS // 2)) == pytest.approx(PEAK / 2)
    for changes in ({"warmup_steps": STEPS + 1}, {"cooldown_steps": 81}, {"warmup_steps": -1}):
        with pytest.raises(UserError, match="do not fit"):
            make_schedule(settings(**changes), STEPS)
