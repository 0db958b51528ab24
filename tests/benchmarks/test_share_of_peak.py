"""The figures that the share of peak is made of."""

import json

from benchmarks.share_of_peak import achieved, product


def test_the_step_that_compiles_does_not_count():
    rows = [{"planned/model_flops": 6e9}] + [
        {"train/step_seconds": s} for s in (9.0, 0.1, 0.3, 0.2)
    ]
    assert achieved([json.dumps(row) for row in rows]) == (6e9, 0.2)


def test_a_product_of_matrices_has_a_plausible_rate():
    assert 1e7 < product(size=256, repeats=2) < 1e14
