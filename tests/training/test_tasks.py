"""Which task a step takes."""

import numpy as np
import pytest

from multimodal.training.tasks import task_at

WEIGHTS = {"words": 1.0, "pairs": 2.5, "regions": 0.5}
STEPS = 20_000


@pytest.fixture(scope="module")
def drawn():
    return [task_at(step, 3, WEIGHTS) for step in range(STEPS)]


def test_tasks_come_in_proportion_to_their_weights(drawn):
    for name, weight in WEIGHTS.items():
        share = weight / sum(WEIGHTS.values())
        deviation = np.sqrt(STEPS * share * (1 - share))
        assert abs(drawn.count(name) - STEPS * share) < 4 * deviation


def test_a_task_does_not_hint_at_the_next(drawn):
    following = [b for a, b in zip(drawn, drawn[1:], strict=False) if a == "pairs"]
    share = 2.5 / 4
    deviation = np.sqrt(len(following) * share * (1 - share))
    assert abs(following.count("pairs") - len(following) * share) < 4 * deviation


def test_a_step_depends_on_nothing_but_seed_and_number(drawn):
    some = [17, 0, 19_999, 17, 400]
    assert [task_at(step, 3, WEIGHTS) for step in some] == [drawn[step] for step in some]
    other = [task_at(step, 4, WEIGHTS) for step in range(200)]
    assert other != drawn[:200]


def test_one_task_takes_every_step():
    assert {task_at(step, 0, {"pairs": 0.1}) for step in range(50)} == {"pairs"}
