"""Sizes of the mesh's axes, and which device gets which place."""

import jax
import numpy as np
import pytest
from jax.sharding import AxisType

from multimodal.errors import UserError
from multimodal.parallel.mesh import AXES, axis_sizes, make_mesh
from multimodal.parallel.topology import tpu_devices


def test_one_axis_takes_what_is_left():
    assert axis_sizes({"data": -1}, 8) == (8, 1, 1, 1)
    assert axis_sizes({"data": 2, "tensor": -1}, 8) == (2, 1, 4, 1)
    assert axis_sizes({"data": 2, "fsdp": 2, "sequence": 2}, 8) == (2, 2, 1, 2)
    assert axis_sizes({"fsdp": -1, "tensor": 8}, 8) == (1, 1, 8, 1)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"data": -1, "fsdp": -1}, "only one axis may be -1"),
        ({"data": 4}, "needs a product of 8"),
        ({"data": 16}, "needs a product of 8"),
        ({"data": -1, "tensor": 3}, "needs a product of 8.*set one axis to -1"),
        ({"data": -1, "fsdp": 0}, "sizes are positive"),
        ({"data": -2, "fsdp": -4}, "sizes are positive"),
    ],
)
def test_sizes_that_cannot_be_are_refused_in_one_line(shape, message):
    with pytest.raises(UserError, match=message) as error:
        axis_sizes(shape, 8)
    assert "\n" not in str(error.value)


def test_axes_are_all_there_and_automatic():
    mesh = make_mesh({"fsdp": 2, "tensor": 2}, jax.devices()[:4])
    assert mesh.axis_names == AXES and dict(mesh.shape) == dict(
        zip(AXES, (1, 2, 2, 1), strict=True)
    )
    assert set(mesh.axis_types) == {AxisType.Auto}
    assert set(mesh.devices.flat) == set(jax.devices()[:4])


def test_axes_follow_the_wires_of_the_torus():
    """On 4 x 4 chips, data=4 x fsdp=4 are its sides; data=2 x fsdp=8 splits one, which a plain
    assignment refuses."""
    devices = tpu_devices("v5e:4x4")
    coordinates = np.vectorize(lambda device: device.coords, otypes=[object])

    def sides(shape, axis):
        lines = np.moveaxis(coordinates(make_mesh(shape, devices).devices), axis, -1)
        return [np.array(line.tolist()) for line in lines.reshape(-1, lines.shape[-1])]

    for axis in (0, 1):
        for line in sides({"data": 4, "fsdp": 4}, axis):
            assert (line != line[0]).any(0).sum() == 1
    for line in sides({"data": 2, "fsdp": 8}, 1):
        assert len(line) == 8 and np.ptp(line, axis=0).max() == 3


def test_only_data_spans_slices():
    devices = tpu_devices("v5e:4x4", slices=2)
    mesh = make_mesh({"data": 4, "fsdp": -1, "tensor": 2}, devices, slices=2)
    slices = np.vectorize(lambda device: device.slice_index)(mesh.devices)
    assert (slices == np.array([0, 0, 1, 1])[:, None, None, None]).all()


def test_slices_that_the_devices_do_not_form_are_refused():
    with pytest.raises(UserError, match="slices=2, but the devices are in 1"):
        make_mesh({"data": 8}, slices=2)
    with pytest.raises(UserError, match="data=1 does not divide into 2 slices"):
        make_mesh({"fsdp": 8}, slices=2)
