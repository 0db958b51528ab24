"""The reader of collectives, against lines with known answers."""

import pytest

from multimodal.parallel.collectives import collectives, is_ring
from multimodal.parallel.mesh import make_mesh

# On 2 x 2 x 2, device 4d + 2f + t. Both lists pair devices that differ in f alone.
GATHERS = {
    "replica_groups={{0,2},{1,3},{4,6},{5,7}}": {"fsdp"},
    "replica_groups=[4,2]<=[2,2,2]T(0,2,1)": {"fsdp"},
    "replica_groups=[4,2]<=[8]": {"tensor"},
    "replica_groups=mesh['axis_0'=2,'axis_1'=4], device_ids=([2,2,2]T(1,0,2)) {'axis_0'}": {"fsdp"},
    "replica_groups=mesh['axis_0'=2,'axis_1'=2,'axis_2'=2] {'axis_0','axis_2'}": {"data", "tensor"},
    "replica_groups={}": {"data", "fsdp", "tensor"},
}
PAIRS = "{{0,1},{1,2},{2,3},{3,0},{4,5},{5,6},{6,7},{7,4}}"


def program(*lines, before=""):
    inside = "\n".join(f"  {line}" for line in lines)
    return f"HloModule m\n{before}\nENTRY %main (p: f32[4]) -> f32[4] {{\n{inside}\n}}\n"


def only(text, **mesh):
    (found,) = collectives(text, make_mesh(mesh))
    return found


@pytest.mark.parametrize("groups", GATHERS)
def test_axes_of_a_gather_in_every_way_of_writing_groups(groups):
    line = f"%g = (f32[4,6]{{1,0:T(8,128)}}, bf16[]) all-gather(%x), {groups}, dimensions={{0}}"
    gather = only(program(line, "%y = f32[4,6] add(%x)"), data=2, fsdp=2, tensor=2)
    assert gather.kind == "all-gather" and gather.shapes == ((4, 6), ())
    assert gather.axes == GATHERS[groups]


def test_unknown_groups_are_no_answer():
    with pytest.raises(ValueError, match="unknown form"):
        only(program("%g = f32[4] all-gather(%x), replica_groups=?"), data=8)


def test_permutation_and_rings():
    line = f"%p = (f32[3], f32[3]) collective-permute-start(%x), source_target_pairs={PAIRS}"
    permute = only(program(line), data=2, fsdp=4)
    assert permute.kind == "collective-permute" and permute.axes == {"fsdp"}
    assert permute.shapes == ((3,),) and permute.bytes == permute.wire_bytes == 12
    assert is_ring(permute.pairs, 4) and not is_ring(permute.pairs, 8)
    assert not is_ring(((0, 1), (1, 0), (2, 3), (3, 2)), 4)


# Groups of four: (n - 1) / n is 3/4. An array of 8 x 16 in bfloat16 has 256 bytes.
SENT = {
    "%r = bf16[8,16] all-reduce(%x)": (256, 2 * 192),
    "%r = (bf16[8,16], f32[8,8]) all-reduce-start(%x, %y)": (512, 2 * 384),
    "%r = bf16[8,16] all-gather(%x)": (256, 192),
    "%r = (bf16[2,16], bf16[8,16]) all-gather-start(%x)": (256, 192),
    "%r = ((bf16[2,16], f32[2]), (bf16[8,16], f32[8])) all-gather-start(%x, %y)": (288, 216),
    "%r = bf16[2,16] reduce-scatter(%x)": (256, 192),
    "%r = bf16[8,16] all-to-all(%x)": (256, 192),
}


@pytest.mark.parametrize("line", SENT)
def test_bytes_of_the_whole_array_and_on_the_wire(line):
    found = only(program(f"{line}, replica_groups=[2,4]<=[8]"), data=2, fsdp=4)
    assert (found.bytes, found.wire_bytes) == SENT[line] and found.axes == {"fsdp"}


def test_a_done_is_no_second_collective():
    start = "%r = (bf16[2,16], bf16[8,16]) all-gather-start(%x), replica_groups=[2,4]<=[8]"
    assert only(program(start, "%d = bf16[8,16] all-gather-done(%r)"), data=2, fsdp=4)


def computation(name, *lines):
    return "\n".join([f"%{name} (p: f32[4]) -> f32[4] {{", *[f"  {x}" for x in lines], "}", ""])


GATHER = "%g = bf16[8,16] all-gather(%p), replica_groups=[2,4]<=[8]"


def test_loops_within_loops_multiply():
    inner = computation("inner", GATHER)
    condition = computation("until3", "%n = s32[] constant(3)", "ROOT %c = pred[] compare(%i, %n)")
    outer = computation("outer", "%w = f32[4] while(%p), condition=%until3, body=%inner")
    loop = (
        "%w = f32[4] while(%p), condition=%no, body=%outer, "
        'backend_config={"known_trip_count":{"n":"5"}}'
    )
    found = only(program(loop, before=inner + condition + outer), data=2, fsdp=4)
    assert found.times == 15 and found.bytes == 256 and found.wire_bytes == 15 * 192


def test_a_loop_of_unknown_length_is_no_answer_where_it_sends():
    before = computation("until", "ROOT %c = pred[] compare(%i, %n)")
    loop = program("%w = f32[4] while(%p), condition=%until, body=%inner", before="{}")
    quiet = computation("inner", "%y = f32[4] negate(%p)")
    mesh = make_mesh({"data": 2, "fsdp": 4})
    assert collectives(loop.replace("{}", before + quiet), mesh) == []
    with pytest.raises(ValueError, match="unknown length"):
        collectives(loop.replace("{}", before + computation("inner", GATHER)), mesh)


def test_a_collective_spread_over_fusions_counts_at_its_start():
    """How TPU programs overlap a gather with other work."""
    call = "ROOT %c = f32[4] custom-call(%g), custom_call_target="
    before = computation("fused_1", GATHER, f'{call}"AsyncCollectiveStart"')
    before += computation("async_collective_fusion.2", GATHER, "ROOT %t = (f32[4]) tuple(%g, %p)")
    before += computation("fused_3", GATHER, f'{call}"AsyncCollectiveDone"')
    names = ("fused_1", "async_collective_fusion.2", "fused_3")
    lines = [f"%f{n} = bf16[8,16] fusion(%x), calls=%{c}" for n, c in enumerate(names)]
    assert only(program(*lines, before=before), data=2, fsdp=4).wire_bytes == 192


def test_an_all_reduce_that_is_sliced_at_once_is_a_reduce_scatter():
    reduce = "%r = bf16[8,16] all-reduce(%p), replica_groups=[2,4]<=[8]"
    before = computation("all-reduce-scatter.7", reduce, "ROOT %s = bf16[2,16] dynamic-slice(%r)")
    line = "%f = bf16[2,16] fusion(%x), kind=kCustom, calls=%all-reduce-scatter.7"
    found = only(program(line, before=before), data=2, fsdp=4)
    assert found.kind == "reduce-scatter" and found.wire_bytes == 192


def test_what_crosses_between_islands():
    """Two slices of four: islands reduce first, so that each device sends its quarter."""
    islands = [0, 0, 0, 0, 1, 1, 1, 1]
    reduce = only(program("%r = bf16[8,16] all-reduce(%x), replica_groups={}"), data=2, fsdp=4)
    assert reduce.crossing_bytes(islands) == 2 * 256 / 2 / 4
    within = only(program(GATHER), data=2, fsdp=4)
    assert within.crossing_bytes(islands) == 0
    assert within.crossing_bytes([0, 0, 1, 1] * 2) == 256 / 2 / 2
