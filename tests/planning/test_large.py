"""What large steps take on real topologies: memory, traffic and work, each at most so much."""

from pathlib import Path

import pytest

from multimodal import recipe
from multimodal.parallel.topology import devices_of
from multimodal.planning.plan import build, plan
from multimodal.planning.program import state_bytes
from tests.toy import replace

CONFIGS = Path(__file__).parents[2] / "configs"
GIB, MIB, TFLOP = 2**30, 2**20, 1e12
PARTS = {"optimizer__name": "adamw", "gather": "step", "reduce": "bfloat16"}
LEAN = {"tasks__pairs__objectives__contrastive__dtype": "bfloat16"}
PRODUCTS = {f"model__towers__{tower}__transformer__keep": "products" for tower in ("image", "text")}
SPLIT = {"accumulate": 16, "mesh__data": 4, "mesh__fsdp": 4}


def settings(name, **changes):
    name, _, options = name.partition(":")
    config = recipe.finish(recipe.load(str(CONFIGS / f"{name}.py"), options))
    return replace(config, **changes)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "topology", "changes", "gib", "mib", "tflop"),
    [
        ("siglip_b16", "v5e:16x16", PARTS, 3.0, 1400, 5600),
        ("siglip_b16", "v5e:16x16", PARTS | LEAN, 2.5, 900, 5600),
        ("siglip_b16", "v5e:16x16", PARTS | LEAN | PRODUCTS, 16, 900, 4700),
        ("siglip_b16", "v5e:4x4", PARTS | SPLIT, 6.0, 1400, 7200),
        ("siglip_gopt16", "v5e:16x16", {}, 6.5, 12000, 78000),
    ],
)
def test_a_step_takes_no_more_than(name, topology, changes, gib, mib, tflop):
    found = plan(settings(name, **changes), topology, devices_of(topology)).figures()
    assert found["hbm_bytes_per_device"] <= gib * GIB
    assert found["wire_bytes_per_device"] <= mib * MIB
    assert found["hardware_flops_per_step"] <= tflop * TFLOP
    assert found["fits"]


def test_the_state_is_shared_by_all_devices_whatever_the_widths():
    """1152 and 4304 do not divide by 256: two dimensions are split."""
    run = build(settings("siglip_gopt16:text=So400m"), devices_of("v5e:16x16"))
    parameters = sum(x.size for x in run.model.shapes().values())
    assert parameters > 1.55e9
    assert 3 * 4 * parameters / 256 <= sum(state_bytes(run).values()) <= 100 * MIB
