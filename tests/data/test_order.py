import numpy as np
import pytest

from multimodal.data.order import permute, record_at


@pytest.mark.parametrize("size", [1, 2, 3, 5, 16, 17, 64, 100, 1000])
def test_permute_is_one_to_one(size):
    for key in (0, 1, 123456789):
        assert sorted(permute(i, size, key) for i in range(size)) == list(range(size))


@pytest.mark.parametrize(("records", "group"), [(1, 1), (24, 1), (24, 4), (26, 4), (3, 4), (50, 7)])
def test_every_record_once_an_epoch(records, group):
    for epoch in range(3):
        order = [record_at(epoch * records + i, records, group, 5) for i in range(records)]
        assert sorted(order) == list(range(records))


def test_groups_stay_together_and_in_order():
    order = np.array([record_at(i, 40, 4, 3) for i in range(40)]).reshape(10, 4)
    assert (order[:, 0] % 4 == 0).all()
    assert (np.diff(order, axis=1) == 1).all()
    assert (order[:, 0] != np.arange(0, 40, 4)).any()


def test_epochs_and_seeds_differ():
    def order(epoch, seed):
        return [record_at(epoch * 100 + i, 100, 1, seed) for i in range(100)]

    orders = [order(0, 0), order(1, 0), order(2, 0), order(0, 1), order(1, 1)]
    assert len({tuple(o) for o in orders}) == 5
    assert record_at(205, 100, 1, None) == 5


def test_shuffle_is_uniform():
    # chi-square over where record 0 .. 7 of 8 come first, 4000 seeds: 7 degrees of freedom
    for index in (0, 3):
        counts = np.bincount([record_at(index, 8, 1, seed) for seed in range(4000)], minlength=8)
        assert ((counts - 500) ** 2 / 500).sum() < 24.3  # p = 0.001
    pairs = [record_at(0, 4, 1, seed) * 4 + record_at(1, 4, 1, seed) for seed in range(4000)]
    counts = np.bincount(pairs, minlength=16).reshape(4, 4)
    off = counts[~np.eye(4, dtype=bool)]
    assert ((off - 4000 / 12) ** 2 / (4000 / 12)).sum() < 31.3  # 11 degrees of freedom


def test_order_never_changes():
    """Old checkpoints go on with the order that they began with."""
    assert [record_at(i, 10, 1, 0) for i in range(10)] == [9, 2, 6, 7, 3, 1, 5, 0, 4, 8]
