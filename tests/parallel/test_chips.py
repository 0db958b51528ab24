"""The table of chips is whole and plausible."""

import pytest

from multimodal.parallel.chips import CHIPS, chip_of, peak_flops


class Device:
    def __init__(self, kind):
        self.device_kind = kind


def test_the_chips_that_runs_are_planned_for():
    assert set(CHIPS) == {"v4", "v5e", "v5p", "v6e", "tpu7x", "a100", "h100", "h200"}


@pytest.mark.parametrize("chip", CHIPS.values(), ids=CHIPS)
def test_figures_are_in_their_units(chip):
    assert 1e14 < chip.flops < 1e16
    assert 16 * 2**30 <= chip.hbm_bytes <= 288 * 2**30
    assert 5e11 < chip.hbm_bandwidth < 1e13
    # Memory is faster than links, and these than the network beyond them.
    assert chip.hbm_bandwidth > chip.interconnect > chip.network > 1e9
    assert chip.source


def test_devices_find_their_chip():
    assert chip_of(Device("TPU v5 lite")) is CHIPS["v5e"]
    assert chip_of(Device("cpu")) is None and peak_flops(Device("cpu")) is None
    assert peak_flops(Device("NVIDIA H200")) == 989e12
    # A chip of two devices: each has half.
    assert peak_flops(Device("TPU7x")) == 2307e12 / 2
