"""Which layouts are tried, and how they are ranked; nothing is compiled."""

import dataclasses

import pytest

from multimodal.config import MeshShape
from multimodal.planning import search, table
from multimodal.planning.search import KEEPS, choice_of, grid, neighbours, ranked, too_large
from tests.planning.test_plan import made, program
from tests.toy import toy_config


def test_the_choice_of_a_config_and_back():
    config = toy_config(mesh=MeshShape(data=-1, fsdp=4), accumulate=2)
    choice = choice_of(config, 16)
    assert dataclasses.asdict(choice.mesh) | {"slices": 1} == {
        "data": 4, "fsdp": 4, "tensor": 1, "sequence": 1, "slices": 1
    }  # fmt: skip
    assert str(choice) == f"data 4 x fsdp 4, keeping {KEEPS[0]}, 2 microbatches"
    changed = dataclasses.replace(choice, keep="inputs", accumulate=4, gather="step").of(config)
    assert choice_of(changed, 16).keep == "inputs" and changed.accumulate == 4
    assert changed.gather == "step" and str(choice_of(changed, 16)).endswith("parts by step")
    towers = changed.model.towers.values()
    assert {tower.transformer.keep for tower in towers} == {"inputs"}
    assert changed.optimizer == config.optimizer and changed.tasks == config.tasks


def keep(choice):
    return choice.keep


def test_too_large_a_step_is_offered_room():
    offered = too_large(choice_of(toy_config(mesh=MeshShape(data=8, fsdp=2)), 16), 16)
    assert offered[0].keep == "inputs" and offered[1].accumulate == 2
    assert [c.gather for c in offered[2:4]] == ["step", "layer"]
    assert [c.mesh.fsdp for c in offered[4:6]] == [4, 16]
    assert all(c.mesh.data * c.mesh.fsdp == 16 for c in offered)


def test_a_step_bound_by_traffic_is_offered_less():
    mesh = MeshShape(data=8, fsdp=2)
    busy = made([program(hardware_flops=1)], mesh=mesh)
    assert busy.bounds[0].by == "memory" and neighbours(busy)
    sending = program(hardware_flops=1, traffic=1)
    assert [c.gather for c in neighbours(made([sending], mesh=mesh))][0] == "step"
    assert [c.mesh.fsdp for c in neighbours(made([sending], mesh=mesh))][1] == 1
    assert neighbours(made([program()], mesh=mesh)) == []


def test_choices_cover_the_devices_and_keep_the_slices():
    rows = list(grid(toy_config(mesh=MeshShape(data=4, fsdp=4, slices=2)), 16))
    assert all(tuple(map(keep, row)) == KEEPS for row in rows)
    meshes = [row[0].mesh for row in rows]
    assert all(m.data * m.fsdp * m.tensor == 16 and m.data % 2 == 0 for m in meshes)
    assert max(m.fsdp for m in meshes) == 8
    assert [row[0].accumulate for row in rows] == sorted(row[0].accumulate for row in rows)
    in_parts = [row[0] for row in rows if row[0].gather != "compiler"]
    assert {c.gather for c in in_parts} == {"step", "layer"}
    assert {c.mesh.fsdp for c in in_parts} == {4}, "the squarest mesh"


def test_what_fits_comes_first_and_the_fastest_before():
    slow, fast = made([program()]), made([program(hardware_flops=int(16 * 197e12))])
    large = made([program(memory={"activations": 2**40})])
    rows = [
        {"change": name, "how": "compiled", "figures": found and found.figures()}
        for name, found in (("none", None), ("large", large), ("slow", slow), ("fast", fast))
    ]
    order = [row["change"] for row in ranked(rows)]
    assert order == ["fast", "slow", "large", "none"]
    lines = table.ranking(ranked(rows)).splitlines()
    assert lines[1].startswith("fast") and "does not fit" in lines[-1]


@pytest.mark.parametrize("fitting", [0, 1])
def test_a_search_leaves_a_row_once_one_fits(monkeypatch, fitting):
    tried = []

    def attempt(choice, *_):
        tried.append(choice)
        memory = {"activations": 1 if KEEPS.index(choice.keep) >= fitting else 2**40}
        return {
            "change": str(choice),
            "how": "",
            "figures": made([program(memory=memory)]).figures(),
        }

    monkeypatch.setattr(search, "attempt", attempt)
    rows = search.search(toy_config(), "v5e:4x4", [None] * 16, None, 4)
    assert len(rows) == len(tried) == 4
    assert [KEEPS.index(c.keep) for c in tried] == ([0] * 4 if not fitting else [0, 1, 0, 1])
