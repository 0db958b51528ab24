"""Bytes to and from memory of small programs whose traffic is known."""

import pytest

from multimodal.planning.traffic import hbm_bytes


def program(*lines, before=""):
    inside = "\n".join(f"  {line}" for line in lines)
    return f"HloModule m\n{before}\nENTRY %main (p: f32[256]) -> f32[256] {{\n{inside}\n}}\n"


def computation(name, *lines):
    return "\n".join([f"%{name} (p: f32[4]) -> f32[4] {{", *[f"  {x}" for x in lines], "}", ""])


P = "%p = f32[256]{0} parameter(0)"
ON_CHIP = "%p = f32[256]{0:T(256)S(1)} parameter(0)"
KB = 1024  # of f32[256]

LINES = {
    "two read, one written": ([P, "%a = f32[256] add(%p, %p)"], 3 * KB),
    "names are free": ([P, "%t = (f32[256]) tuple(%p)", "%b = f32[16,16] bitcast(%p)"], 0),
    "on the chip is free": ([ON_CHIP, "%a = f32[256] negate(%p)"], KB),
    "and so is a result there": ([P, "%a = f32[256]{0:T(256)S(1)} negate(%p)"], KB),
    "a slice reads its own": ([P, "%s = f32[16] dynamic-slice(%p, %i)"], 2 * 64),
    "an update writes its own": (
        [P, "%u = f32[16] constant({...})", "%d = f32[256] dynamic-update-slice(%p, %u, %i)"],
        2 * 64,
    ),
    "a copy in the background counts once": (
        [
            P,
            "%c = (f32[256]{0:S(1)}, f32[256]{0}, u32[]{:S(2)}) copy-start(%p)",
            "%d = f32[256]{0:S(1)} copy-done(%c)",
        ],
        KB,
    ),
    "a library's workspace is no traffic": (
        [P, '%c = (f32[256], s8[4096]) custom-call(%p), custom_call_target="__cublas$gemm"'],
        2 * KB,
    ),
    "a slice in the background reads its own": (
        [P, "%c = ((f32[256]{0}), f32[16]{0:S(1)}, s32[]{:S(2)}) slice-start(%p)"],
        64,
    ),
}


@pytest.mark.parametrize("name", LINES)
def test_one_instruction(name):
    lines, want = LINES[name]
    assert hbm_bytes(program(*lines)) == want


def test_a_loop_counts_as_often_as_it_runs():
    before = computation("body", P, "ROOT %a = f32[256] negate(%p)")
    before += computation("until", "%n = s32[] constant(7)", "ROOT %c = pred[] compare(%i, %n)")
    loop = "%w = f32[256] while(%p), condition=%until, body=%body"
    assert hbm_bytes(program(P, loop, before=before)) == 7 * 2 * KB


BIG = "%p = f32[12,256] parameter(0)"
UPDATE = [
    "%q = f32[12,256] parameter(0)",
    "%x = f32[1,256] parameter(1)",
    "%e = f32[1,256] negate(%x)",
    "ROOT %u = f32[12,256] dynamic-update-slice(%q, %e, %i)",
]
SLICED = [
    "%q = f32[12,256] parameter(0)",
    "%b = f32[3072] bitcast(%q)",
    "%s = f32[256] dynamic-slice(%b, %i)",
    "ROOT %n = f32[256] negate(%s)",
]
WITHIN = ["%r = f32[12,256] parameter(0)", "ROOT %g = f32[256] fusion(%r), calls=%sliced"]


def test_a_fusion_reads_of_a_stack_the_layer_that_it_slices():
    before = computation("sliced", *SLICED)
    line = "%f = f32[256] fusion(%p), kind=kLoop, calls=%sliced"
    assert hbm_bytes(program(BIG, line, before=before)) == 2 * KB
    outer = "%f = f32[256] fusion(%p), kind=kOutput, calls=%within"
    before += computation("within", *WITHIN)
    assert hbm_bytes(program(BIG, outer, before=before)) == 2 * KB


def test_a_fusion_that_updates_a_stack_writes_the_layer():
    before = computation("updated", *UPDATE)
    layer = "%l = f32[1,256] parameter(1)"
    line = "%f = f32[12,256] fusion(%p, %l), kind=kLoop, calls=%updated"
    assert hbm_bytes(program(BIG, layer, line, before=before)) == 2 * KB


def test_what_a_fusion_hands_on_is_free():
    before = computation(
        "on", "%q = f32[256] parameter(0)", "%x = f32[256] parameter(1)",
        "%n = f32[256] negate(%x)", "ROOT %t = (f32[256], f32[256]) tuple(%q, %n)",
    )  # fmt: skip
    line = "%f = (f32[256], f32[256]) fusion(%p, %p), calls=%on"
    assert hbm_bytes(program(P, line, before=before)) == 2 * KB
