import numpy as np
import pytest

from multimodal.data.order import Order, part_at, permute, record_at, shares


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


def test_a_window_mixes_the_records_of_a_few_blocks():
    order = np.array([record_at(i, 103, 5, 3, window=4) for i in range(206)])
    for epoch in (order[:103], order[103:]):
        assert sorted(epoch) == list(range(103))
        assert epoch[100:].tolist() == [100, 101, 102]
        for window in epoch[:100].reshape(5, 20):
            blocks = window // 5
            assert len(set(blocks)) == 4
            assert np.count_nonzero(np.diff(blocks)) > 6
    assert (order[:103] != order[103:]).any()


def test_replacement_is_uniform_and_may_repeat():
    order = Order((8,), seed=1, replacement=True)
    counts = np.bincount([order(i) for i in range(4000)], minlength=8)
    assert ((counts - 500) ** 2 / 500).sum() < 24.3  # p = 0.001, 7 degrees of freedom
    assert counts.min() != counts.max()
    assert len({tuple(Order((8,), seed=s, replacement=True)(i) for i in range(9)) for s in (1, 2)})


def test_weights_of_a_mixture_are_exact_over_a_block():
    assert shares((1.0, 2.0), 4) == (1, 3)
    weights = (0.5, 0.3, 0.2 - 1e-5, 1e-5)
    counts = shares(weights)
    assert sum(counts) == 1 << 18
    np.testing.assert_allclose(counts, np.array(weights) * 2**18, atol=1)
    start = (1 << 18) * 3
    parts = [part_at(start + i, weights, 7) for i in range(1 << 18)]
    assert tuple(np.bincount([part for part, _ in parts])) == counts
    # Each part is walked through without a gap, from one block to the next.
    for part, count in enumerate(counts):
        numbers = [n for p, n in parts if p == part]
        assert numbers == list(range(3 * count, 4 * count))
    # Within the block the mixture is as even as independent draws: 4 standard deviations.
    for first in range(0, 1 << 18, 1 << 16):
        share = np.mean([p == 0 for p, _ in parts[first : first + 1000]])
        assert abs(share - 0.5) < 4 * (0.25 / 1000) ** 0.5
    assert parts[:64] != [part_at(i, weights, 7) for i in range(64)]
    assert parts[:64] != [part_at(start + i, weights, 8) for i in range(64)]


def test_each_part_of_a_mixture_has_its_own_epochs():
    order = Order((7, 30), (3.0, 1.0), seed=4)
    indices = [order(i) for i in range(400)]
    first = [i for i in indices if i < 7]
    second = [i - 7 for i in indices if i >= 7]
    for part, size in ((first, 7), (second, 30)):
        epochs = [tuple(part[i : i + size]) for i in range(0, len(part) - size, size)]
        assert all(sorted(epoch) == list(range(size)) for epoch in epochs)
        assert len(set(epochs)) == len(epochs)


def test_the_order_of_a_mixture_never_changes():
    order = Order((7, 30), (3.0, 1.0), seed=4)
    assert [order(i) for i in range(12)] == [0, 2, 5, 3, 31, 6, 4, 1, 33, 5, 2, 32]
