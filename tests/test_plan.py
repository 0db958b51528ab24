"""The command as users run it: a small run for a TPU, whatever it is asked, and every recipe."""

import json

import pytest

from multimodal import recipe
from multimodal.parallel.topology import devices_of
from multimodal.planning.claims import claimed
from multimodal.planning.plan import plan
from tests.commands import finish, start
from tests.configs import recipes
from tests.configs.recipes import ROOT
from tests.planning.test_plan import KEYS

TOY = "--config=configs/toy.py"


def test_a_toy_run_planned_for_a_tpu(tmp_path):
    file = tmp_path / "plan.json"
    given = ("--topology=v5e:2x2", f"--json={file}", "--price=1.2", "--tries=0")
    status, output, errors = finish(start("plan", TOY, *given, "--config.mesh.fsdp=2"))
    assert status == 0, errors
    figures = json.loads(file.read_text())
    assert figures.keys() >= KEYS and all(figures[key] is not None for key in KEYS)
    assert figures["fits"] is True and figures["hbm_capacity_bytes"] == 16 * 2**30
    assert 0 < figures["mfu_upper_bound"] <= 1 and figures["mesh"]["fsdp"] == 2
    assert figures["cost"] == pytest.approx(1.2 * figures["chip_hours"])
    assert sum(figures["memory_per_device"].values()) == figures["hbm_bytes_per_device"]
    by_kind = figures["collectives"]
    assert sum(c["wire_bytes"] for c in by_kind) == figures["wire_bytes_per_device"] > 0
    for told in ("toy-dual_encoder on v5e:2x2: 4 devices", "fits", "fsdp", "bound by", "MFU at"):
        assert told in output


REFUSED = {
    "no topology": ([], "names no accelerator: say --topology=NAME"),
    "unknown": (["--topology=v9e:4x4"], "no TPU topology 'v9e:4x4'"),
    "too small": (["--topology=cpu:2", "--config.mesh.fsdp=16"], "needs a product of 2"),
    "indivisible": (["--topology=cpu:8", "--config.batch_size=12"], "12 examples do not divide"),
    "no slices": (["--topology=cpu:8", "--slices=0"], "--slices=0: at least 1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_planned_is_one_line(name):
    arguments, said = REFUSED[name]
    status, _, errors = finish(start("plan", TOY, *arguments, devices=8))
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert status == 2 and len(lines) == 1 and said in lines[0]


# Those for a few CPU cores, each with what it is for.
SMALL = ("cifar10", "emoji", "openstax", "quickstart")


@pytest.mark.parametrize("name", SMALL)
def test_small_recipes_fit_what_they_are_for(name):
    """Compiled in a hurry, as all tests: with all optimisations a program takes less memory."""
    topology = claimed(str(ROOT / "configs" / f"{name}.py"))
    assert topology == "cpu:1"
    found = plan(recipes.load(name), topology, devices_of(topology))
    assert found.fits and found.hbm_bytes < 2 * 2**30


FULL_SIZE = [n for n in recipes.names() if n.partition(":")[0] not in (*SMALL, "toy", "pairs")]


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL_SIZE)
def test_full_size_recipes_fit_what_they_are_for(name):
    """As `make plan-all`."""
    file, _, options = name.partition(":")
    path = str(ROOT / "configs" / f"{file}.py")
    topology = claimed(path)
    figures = plan(recipe.finish(recipe.load(path, options)), topology, devices_of(topology))
    assert figures.fits
