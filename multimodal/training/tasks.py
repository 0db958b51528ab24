"""Which task a step takes."""

from collections.abc import Mapping

import numpy as np


def task_at(step: int, seed: int, weights: Mapping[str, float]) -> str:
    """The task of `step`, drawn by weight; a pure function, the same on every process."""
    names = list(weights)
    if len(names) == 1:
        return names[0]
    share = np.cumsum([weights[name] for name in names])
    draw = np.random.default_rng((seed, step)).random() * share[-1]
    return names[int(np.searchsorted(share, draw, side="right"))]
