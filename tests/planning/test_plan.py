"""A plan of a toy run on simulated devices, against shapes, shardings and the compiler."""

import dataclasses
import math
from unittest import mock

import jax
import numpy as np
import pytest

from multimodal import config
from multimodal.parallel.chips import CHIPS
from multimodal.parallel.collectives import Collective
from multimodal.planning import table
from multimodal.planning.expected import expected
from multimodal.planning.plan import Assumptions, Plan, bound, build, plan
from multimodal.planning.program import Program, state_bytes
from tests.toy import toy_config

KEYS = {
    "fits", "hbm_bytes_per_device", "hbm_capacity_bytes", "state_bytes_per_device",
    "model_flops_per_step", "hardware_flops_per_step", "collective_bytes_per_device",
    "wire_bytes_per_device", "step_seconds_lower_bound", "mfu_upper_bound", "examples_per_second",
    "chip_hours",
}  # fmt: skip


@pytest.fixture(scope="module")
def planned():
    """The plan, and what the compiler has told it of memory."""
    settings, told = toy_config(mesh=config.MeshShape(data=2, fsdp=4)), []
    analysis = jax.stages.Compiled.memory_analysis

    def recorded(compiled):
        told.append(analysis(compiled))
        return told[-1]

    with mock.patch.object(jax.stages.Compiled, "memory_analysis", recorded):
        found = plan(settings, "cpu:8", jax.devices()[:8])
    return found, told[-1]


@pytest.fixture(scope="module")
def toy(planned):
    return planned[0]


def test_the_state_is_what_shapes_and_shardings_say(toy):
    run = build(toy.config, list(toy.devices))
    parameters = 0
    for path, leaf in run.model.shapes().items():
        split = "fsdp" in str(run.shardings.params[path].spec)
        parameters += 4 * math.prod(leaf.shape) // (4 if split else 1)
    assert toy.state["parameters"] == parameters == toy.programs[0].memory["parameters"]
    # AdamW keeps two of each, and counts its steps beside the run.
    assert 0 <= toy.state["optimizer"] - 2 * parameters <= 32
    whole = 4 * sum(math.prod(leaf.shape) for leaf in run.model.shapes().values())
    assert 0 <= toy.checkpoint_bytes - 3 * whole <= 32


def test_the_parts_of_memory_add_up_to_what_the_compiler_says(planned):
    toy, told = planned
    kept = told.output_size_in_bytes - told.alias_size_in_bytes
    program = told.temp_size_in_bytes + told.generated_code_size_in_bytes
    assert toy.hbm_bytes == told.argument_size_in_bytes + kept + program
    assert all(size >= 0 for size in toy.programs[0].memory.values())


def test_work_and_traffic_of_the_toy(toy):
    program = toy.programs[0]
    # Not the gradient of the pixels, which the convention counts; nothing is computed twice.
    assert 0.95 < program.hardware_flops / program.model_flops <= 1.01
    # Each gradient is reduced, each of the sharded parameters gathered, at the least.
    parameters = sum(
        math.prod(x.shape) for x in build(toy.config, toy.devices).model.shapes().values()
    )
    assert program.wire_bytes > 4 * parameters * 3 / 4
    assert {axis for c in program.collectives for axis in c.axes} == {"data", "fsdp"}
    assert program.traffic > toy.state["parameters"] * 6


def test_figures_and_page_of_an_unknown_device(toy):
    figures = toy.figures()
    assert figures.keys() >= KEYS and figures["step_seconds_lower_bound"] is None
    assert figures["fits"] is True and figures["hosts"] == 1
    page = table.page(figures)
    assert "toy" in page and "no figures of this device" in page
    assert table.line(figures).count("\n") == 0


def program(**changes):
    reduce = Collective(
        "all-reduce", ((1,),), frozenset({"data"}), (tuple(range(16)),), (), 16 * 10**9
    )
    values = {
        "task": "pairs", "first": 0, "memory": {"parameters": 2**30}, "host_bytes": 0,
        "collectives": (reduce,), "traffic": int(819e9) // 2, "model_flops": int(16 * 197e12),
        "hardware_flops": int(2 * 16 * 197e12), "compile_seconds": 0.0,
    }  # fmt: skip
    return Program(**(values | changes))


@dataclasses.dataclass(frozen=True)
class Device:
    process_index: int
    slice_index: int = 0
    platform: str = "tpu"


ONE_SLICE = tuple(Device(i // 4) for i in range(16))
TWO_SLICES = tuple(Device(i // 4, i // 8) for i in range(16))


def test_bounds_in_closed_form():
    found = bound(program(), ONE_SLICE, CHIPS["v5e"])
    assert found.compute == pytest.approx(2.0) and found.memory == pytest.approx(0.5)
    assert found.interconnect == pytest.approx(2 * 15 / 16 * 16e9 / 200e9)
    assert found.network is None and found.seconds == pytest.approx(2.0) and found.by == "compute"
    # Each slice of eight sends half of what is reduced, twice, shared among its chips.
    across = bound(program(), TWO_SLICES, CHIPS["v5e"])
    assert across.network == pytest.approx(2 / 2 * 16e9 / 8 / 3.125e9)
    # Two devices a chip share its figures.
    assert bound(program(), ONE_SLICE, CHIPS["tpu7x"]).memory == pytest.approx(819 / 7380)


def made(programs, devices=ONE_SLICE, chip=CHIPS["v5e"], **changes):
    settings = toy_config(steps=100, batch_size=32, **changes)
    bounds = tuple(bound(p, devices, chip) for p in programs)
    assumptions = Assumptions(price=1.5, checkpoint_bandwidth=1e9)
    mesh, state, saved = {"data": 16}, {"parameters": 7}, 4 * 10**9
    return Plan(
        settings, "v5e:4x4", mesh, devices, chip, tuple(programs), bounds, state, saved, assumptions
    )


def test_time_and_cost_of_a_run_in_closed_form():
    figures = made([program()]).figures()
    assert figures["step_seconds_lower_bound"] == pytest.approx(2)
    assert figures["mfu_upper_bound"] == pytest.approx(0.5)
    assert figures["examples_per_second"] == pytest.approx(16)
    assert figures["examples_per_second_per_host"] == pytest.approx(4)
    assert figures["chip_hours"] == pytest.approx(200 * 16 / 3600)
    assert figures["cost"] == pytest.approx(1.5 * 200 * 16 / 3600)
    assert figures["checkpoint_seconds"] == pytest.approx(1)
    assert figures["hbm_capacity_bytes"] == 16 * 2**30 and figures["fits"] is True
    assert "bound by compute" in table.page(figures) and "fits" in table.line(figures)


def test_a_second_kind_of_step_counts_for_its_share():
    """80 steps of two seconds, then 20 of four, which also take most memory."""
    late = program(
        first=80, hardware_flops=int(4 * 16 * 197e12), memory={"activations": 17 * 2**30}
    )
    found = made([program(), late])
    assert found.shares() == pytest.approx([0.8, 0.2])
    assert found.run_seconds == pytest.approx(80 * 2 + 20 * 4)
    figures = found.figures()
    assert figures["fits"] is False and figures["step_seconds_lower_bound"] == pytest.approx(4)
    page = table.page(figures)
    assert "does not fit" in page and "1.00 GiB too much" in page and "kinds of step" in page


def test_what_a_run_logs_of_its_plan(toy):
    run = build(toy.config, list(toy.devices))
    figures = expected(run)
    assert figures["planned/model_flops"] == toy.programs[0].model_flops
    assert figures["planned/state_bytes"] == sum(state_bytes(run).values())
    assert "planned/step_seconds" not in figures and all(map(np.isfinite, figures.values()))
