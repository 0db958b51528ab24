"""The device mesh: four named axes, always all present, some of size 1."""

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh

from multimodal.errors import UserError

AXES = ("data", "fsdp", "tensor", "sequence")


def axis_sizes(shape: dict[str, int], device_count: int) -> tuple[int, ...]:
    """Sizes of `AXES` for `device_count` devices; one axis may be -1 and takes what is left.

    Raises UserError when the sizes do not multiply to the number of devices.
    """
    sizes = [shape.get(axis, 1) for axis in AXES]
    if any(size < 1 and size != -1 for size in sizes):
        raise UserError(f"mesh {shape}: sizes are positive; one may be -1")
    if sizes.count(-1) > 1:
        raise UserError(f"mesh {shape}: only one axis may be -1")
    known = int(np.prod([s for s in sizes if s != -1]))
    if -1 in sizes and device_count % known == 0:
        sizes[sizes.index(-1)] = device_count // known
    if int(np.prod(sizes)) != device_count:
        raise UserError(
            f"mesh {dict(zip(AXES, sizes, strict=True))} needs a product of {device_count}, the "
            "number of devices; set one axis to -1 to let it take what is left"
        )
    return tuple(sizes)


def make_mesh(shape: dict[str, int], devices: list | None = None, slices: int = 1) -> Mesh:
    """Mesh over `devices` (default: all of this job) with every axis in Auto mode.

    With `slices` > 1 the data axis spans the slices, so that only its gradient reduction
    crosses the slow network between them. Raises UserError where the sizes do not fit the devices.
    """
    devices = jax.devices() if devices is None else list(devices)
    sizes = axis_sizes(shape, len(devices))
    # Axes follow the wires between chips; one that fits no whole side of the torus is split.
    split = {"allow_split_physical_axes": True}
    if slices > 1:
        if sizes[0] % slices:
            raise UserError(f"mesh axis data={sizes[0]} does not divide into {slices} slices")
        found = len({getattr(device, "slice_index", 0) for device in devices})
        if found != slices:
            raise UserError(f"mesh slices={slices}, but the devices are in {found}; set it to that")
        within = (sizes[0] // slices, *sizes[1:])
        grid = mesh_utils.create_hybrid_device_mesh(within, (slices, 1, 1, 1), devices, **split)
    else:
        grid = mesh_utils.create_device_mesh(sizes, devices, **split)
    return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))
