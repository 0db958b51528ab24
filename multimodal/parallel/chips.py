"""What accelerators can do, from their vendors' pages: the one table for plans and for MFU."""

from dataclasses import dataclass

import jax

from multimodal.errors import UserError

GIB = 2**30


@dataclass(frozen=True)
class Chip:
    """Figures of one chip; `devices` is how many jax devices it is.

    `flops`: dense bfloat16 FLOP/s. `hbm_bytes`, and `hbm_bandwidth` in bytes/s. `interconnect`:
    bytes/s that it can send over all its fast links (`links`) together, in one direction.
    `network`: bytes/s to what these do not reach, other slices or nodes.
    """

    name: str
    kinds: tuple[str, ...]  # jax's device_kind
    flops: float
    hbm_bytes: int
    hbm_bandwidth: float
    interconnect: float
    links: str
    network: float
    source: str
    devices: int = 1


# Vendors give links as the sum of both directions; half of it is here.
_TPU = "docs.cloud.google.com/tpu/docs/"
CHIPS = {
    chip.name: chip
    for chip in (
        Chip(
            "v4", ("TPU v4",), 275e12, 32 * GIB, 1200e9, 300e9, "6, 3D torus", 6.25e9,
            _TPU + "v4; links: 6 x 50 GB/s, arXiv:2304.01433, table 4; network: as v5p",
        ),
        Chip(
            "v5e", ("TPU v5 lite", "TPU v5e"), 197e12, 16 * GIB, 819e9, 200e9, "4, 2D torus",
            3.125e9, _TPU + "v5e; network: 6.4 Tbps a pod of 256",
        ),
        Chip(
            "v5p", ("TPU v5", "TPU v5p"), 459e12, 95 * GIB, 2765e9, 600e9, "6, 3D torus", 6.25e9,
            _TPU + "v5p",
        ),
        Chip(
            "v6e", ("TPU v6 lite", "TPU v6e"), 918e12, 32 * GIB, 1638e9, 400e9, "4, 2D torus",
            12.5e9, _TPU + "v6e",
        ),
        Chip(
            "tpu7x", ("TPU7x", "TPU v7x"), 2307e12, 192 * GIB, 7380e9, 600e9, "6, 3D torus", 12.5e9,
            _TPU + "tpu7x; its two cores are two devices", devices=2,
        ),
        Chip(
            "a100", ("NVIDIA A100-SXM4-80GB",), 312e12, 80 * GIB, 2039e9, 300e9, "12, NVSwitch",
            25e9, "NVIDIA A100 data sheet (SXM, 80 GB); network: 200 Gb/s a GPU, DGX A100",
        ),
        Chip(
            "h100", ("NVIDIA H100 80GB HBM3",), 989e12, 80 * GIB, 3350e9, 450e9, "18, NVSwitch",
            50e9, "NVIDIA H100 data sheet (SXM); network: 400 Gb/s a GPU, DGX H100",
        ),
        Chip(
            "h200", ("NVIDIA H200",), 989e12, 141 * 10**9, 4800e9, 450e9, "18, NVSwitch", 50e9,
            "NVIDIA H200 data sheet (SXM); network: 400 Gb/s a GPU, DGX H200",
        ),
    )
}  # fmt: skip


def chip_of(device: jax.Device) -> Chip | None:
    """The chip that a device is, or is a part of; None for one that the table does not have."""
    return next((chip for chip in CHIPS.values() if device.device_kind in chip.kinds), None)


def peak_flops(device: jax.Device) -> float | None:
    """Dense bfloat16 FLOP/s of one jax device."""
    chip = chip_of(device)
    return chip.flops / chip.devices if chip else None


def named(name: str) -> Chip:
    """The chip of a name. Raises UserError."""
    if name not in CHIPS:
        raise UserError(f"no chip {name!r}; the table has {', '.join(CHIPS)}")
    return CHIPS[name]
