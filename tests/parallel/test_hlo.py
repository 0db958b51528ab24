"""The reader of HLO text that other tests rely on, against lines with known answers."""

import pytest

from multimodal.parallel.mesh import make_mesh
from tests.parallel.hlo import collectives, is_ring

# On 2 x 2 x 2, device 4d + 2f + t. Both lists pair devices that differ in f alone.
GATHERS = {
    "replica_groups={{0,2},{1,3},{4,6},{5,7}}": {"fsdp"},
    "replica_groups=[4,2]<=[2,2,2]T(0,2,1)": {"fsdp"},
    "replica_groups=[4,2]<=[8]": {"tensor"},
    "replica_groups=mesh['axis_0'=2,'axis_1'=4], device_ids=([2,2,2]T(1,0,2)) {'axis_0'}": {"fsdp"},
    "replica_groups=mesh['axis_0'=2,'axis_1'=2,'axis_2'=2] {'axis_0','axis_2'}": {"data", "tensor"},
    "replica_groups={}": {"data", "fsdp", "tensor"},
}


@pytest.mark.parametrize("groups", GATHERS)
def test_axes_of_a_gather_in_every_way_of_writing_groups(groups):
    mesh = make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
    line = f"  %g = (f32[4,6]{{1,0:T(8,128)}}, bf16[]) all-gather(%x), {groups}, dimensions={{0}}"
    (gather,) = collectives(f"{line}\n  %y = f32[4,6] add(%x)\n", mesh)
    assert gather.kind == "all-gather" and gather.shapes == ((4, 6), ())
    assert gather.axes == GATHERS[groups]


def test_unknown_groups_are_no_answer():
    with pytest.raises(ValueError, match="unknown form"):
        collectives("%g = f32[4] all-gather(%x), replica_groups=?", make_mesh({"data": 8}))


def test_permutation_and_rings():
    mesh = make_mesh({"data": 2, "fsdp": 4})
    line = "%p = f32[3] collective-permute-start(%x), source_target_pairs={{0,1},{1,2},{2,3},{3,0}}"
    (permute,) = collectives(line, mesh)
    assert permute.kind == "collective-permute" and permute.axes == {"fsdp"}
    assert is_ring(permute.pairs, 4) and not is_ring(permute.pairs, 8)
    assert not is_ring(((0, 1), (1, 0), (2, 3), (3, 2)), 4)
