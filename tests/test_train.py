"""One run on several meshes, and in several processes: the same numbers."""

import dataclasses
import json
import shutil
import socket

import jax
import numpy as np
import pytest

from multimodal import config
from multimodal.checkpoint.bundle import Checkpoints
from tests.commands import caching_compilations, finish, start
from tests.toy import build, replace, toy_config

FSDP = config.MeshShape(data=1, fsdp=8)
# Gradients are of epsilon's order, so that Adam does not turn their rounding into signs.
CONFIG = replace(
    toy_config(steps=3, batch_size=16, mesh=FSDP),
    checkpoints=config.Checkpoints(every=1, keep=9),
    optimizer__eps=1e-2,
    optimizer__schedule="constant",
    tasks__pairs__data__source__train=64,
    model__towers__text__transformer__dropout=0.1,
)
RETRIEVAL = config.Retrieval(
    dataclasses.replace(
        CONFIG.tasks["pairs"].data, source=config.Scenes(split="test_single", train=64)
    ),
    captions="first",
    every=99,
)
EVALUATED = {"evaluators": {"single": RETRIEVAL}}


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return tmp_path_factory.mktemp("shared")


def launch(workdir, shared, mesh=FSDP, devices=8, changes=None, **environment):
    recipe = workdir.with_suffix(".json")
    changed = dataclasses.replace(CONFIG, mesh=mesh, **(changes or {}))
    recipe.write_text(json.dumps(config.to_dict(changed)))
    given = {"MULTIMODAL_DATA": str(shared / "data")}
    given |= caching_compilations(shared / "compiled") | environment
    return start("train", f"--config={recipe}", f"--workdir={workdir}", devices=devices, **given)


def launch_two(workdir, shared, mesh, changes=None):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    peers = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2"}
    return [
        launch(workdir, shared, mesh, 4, changes, JAX_PROCESS_ID=str(index), **peers)
        for index in range(2)
    ]


def succeed(*processes):
    """What the processes printed; all are ended when one fails."""
    try:
        ends = [finish(process, 200) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for status, _, errors in ends:
        assert status == 0, errors
    return [output for _, output, _ in ends]


@pytest.fixture(scope="module")
def alone(tmp_path_factory, shared):
    """The run of one process on eight devices."""
    workdir = tmp_path_factory.mktemp("alone") / "run"
    succeed(launch(workdir, shared))
    return workdir


def stopped_at(step, run, folder):
    """A copy of `run` as if it had been killed after `step`."""
    workdir = folder / "run"
    shutil.copytree(run, workdir)
    for later in range(step + 1, CONFIG.steps + 1):
        shutil.rmtree(workdir / "checkpoints" / f"{later:08}")
    return workdir


def figures(workdir, name="train/loss"):
    """The lines of metrics.jsonl that hold `name`."""
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, lines) if name in line]


def final_state(workdir):
    state = build(CONFIG, devices=1).abstract_state
    return jax.device_get(Checkpoints(workdir / "checkpoints").restore(CONFIG.steps, state))


def assert_same_run(workdir, wanted, rtol=1e-6):
    for found, want in zip(figures(workdir), figures(wanted), strict=True):
        assert found["step"] == want["step"]
        for name in ("train/loss", "train/gradient_norm", "train/learning_rate"):
            np.testing.assert_allclose(found[name], want[name], rtol=10 * rtol, err_msg=name)
    state, target = final_state(workdir), final_state(wanted)
    for path, want in target.params.items():
        # Biases begin at 0 and have come no further than a few thousandths.
        scale = max(np.abs(want).max(), 1e-2)
        np.testing.assert_allclose(
            state.params[path], want, rtol=0, atol=rtol * scale, err_msg=path
        )


def test_a_second_run_compiles_nothing_and_ends_the_same(tmp_path, shared, alone):
    (first,) = figures(alone, "train/compile_cached")
    assert first["train/compile_cached"] == 0 and first["train/compile_seconds"] > 0
    known = {path.name for path in (shared / "compiled").iterdir()}  # whatever has been compiled
    assert any(name.startswith("jit_step") for name in known)
    workdir = tmp_path / "run"
    succeed(launch(workdir, shared))
    assert {path.name for path in (shared / "compiled").iterdir()} == known
    (first,) = figures(workdir, "train/compile_cached")
    assert first["step"] == 1 and first["train/compile_cached"] == 1
    for found, want in zip(figures(workdir), figures(alone), strict=True):
        assert found["train/loss"] == want["train/loss"]
    jax.tree.map(np.testing.assert_array_equal, final_state(workdir), final_state(alone))


@pytest.mark.parametrize(
    "mesh, devices",
    [
        (config.MeshShape(data=2, fsdp=2, tensor=2), 8),
        (config.MeshShape(data=4), 4),
    ],
)
def test_resumed_on_another_mesh_the_loss_is_the_same(tmp_path, shared, alone, mesh, devices):
    workdir = stopped_at(2, alone, tmp_path)
    succeed(launch(workdir, shared, mesh, devices))
    found, want = figures(workdir)[-1], figures(alone)[-1]
    assert found["step"] == want["step"] == 3
    np.testing.assert_allclose(found["train/loss"], want["train/loss"], rtol=1e-5)


def test_two_processes_train_as_one_and_one_goes_on(tmp_path, shared, alone):
    workdir = tmp_path / "run"
    first, second = succeed(*launch_two(workdir, shared, FSDP))
    assert "run folder" in first and "run folder" not in second
    assert_same_run(workdir, alone)
    resumed = stopped_at(2, workdir, tmp_path / "on")
    succeed(launch(resumed, shared))
    assert_same_run(resumed, alone)


def test_two_processes_go_on_and_evaluate_where_one_was_killed(tmp_path, shared, alone):
    mesh, ends = config.MeshShape(data=8), []
    for processes in (1, 2):
        workdir = stopped_at(2, alone, tmp_path / str(processes))
        if processes == 1:
            succeed(launch(workdir, shared, mesh, changes=EVALUATED))
        else:
            succeed(*launch_two(workdir, shared, mesh, EVALUATED))
        assert_same_run(workdir, alone)
        ends += figures(workdir, "eval/single/examples")
    one, two = ends
    assert one.keys() == two.keys()
    assert (one["step"], one["eval/single/examples"]) == (CONFIG.steps, 512)
    for name, value in one.items():
        # An example or two may be ranked differently where scores differ by rounding alone.
        np.testing.assert_allclose(two[name], value, rtol=0, atol=2.01 / 512, err_msg=name)


def test_a_longer_run_with_a_profile_and_an_evaluation_that_was_missed(tmp_path, shared, alone):
    workdir = stopped_at(2, alone, tmp_path)
    changes = EVALUATED | {"steps": 8, "profile": True}
    succeed(launch(workdir, shared, changes=changes))
    assert len(list((workdir / "profile").rglob("*.xplane.pb"))) == 1
    assert [line["step"] for line in figures(workdir)] == [*range(1, 9)]
    wanted = figures(workdir, "eval/single/examples")
    assert [line["step"] for line in wanted] == [8]
    shutil.rmtree(workdir / "profile")

    # As if killed between the last save and its evaluation.
    lines = (workdir / "metrics.jsonl").read_text().splitlines(keepends=True)
    (workdir / "metrics.jsonl").write_text("".join(x for x in lines if "eval/" not in x))
    for _ in range(2):  # nothing is written twice
        (table,) = succeed(launch(workdir, shared, changes=changes))
        assert "text_to_image" in table or "R@1" in table
        assert figures(workdir, "eval/single/examples") == wanted
    assert len(figures(workdir)) == 8
