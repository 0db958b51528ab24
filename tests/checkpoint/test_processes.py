"""Real processes: killed in the middle of a save, out of room, and two that save together."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax

from multimodal.checkpoint.bundle import Checkpoints
from multimodal.checkpoint.tree import flatten
from multimodal.parallel.mesh import make_mesh
from tests.checkpoint.child import SETTINGS, WIDTH
from tests.checkpoint.states import bits, make_state, target_of

ROOT = Path(__file__).parents[2]


def start(*arguments, devices: int = 8) -> subprocess.Popen:
    flags = f"--xla_force_host_platform_device_count={devices}"
    return subprocess.Popen(
        [sys.executable, "-m", "tests.checkpoint.child", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def words(output: str, first: str) -> list[int]:
    lines = (line.split() for line in output.splitlines())
    return [int(line[1]) for line in lines if line[:1] == [first]]


def kill_and_check(folder: Path, delay: float) -> bool:
    """Kills a run `delay` seconds into one of its saves; True when half a save was left."""
    run = start("train", folder)
    before = set(folder.glob("*")) if folder.exists() else set()
    while not set(folder.glob("*.orbax-checkpoint-tmp")) - before:
        assert run.poll() is None, run.communicate()[1]
        time.sleep(0.001)
    time.sleep(delay)
    run.send_signal(signal.SIGKILL)
    output, _ = run.communicate()
    half = bool(set(folder.glob("*.orbax-checkpoint-tmp")))

    checkpoints = Checkpoints(folder, SETTINGS)
    latest = checkpoints.latest()
    promised = max([*words(output, "saved"), *words(output, "from")])
    assert (latest or 0) >= promised
    if latest:
        mesh = make_mesh({"data": 2, "tensor": 4})
        state = make_state(mesh, seed=latest, width=WIDTH)
        assert bits(checkpoints.restore(latest, target_of(state, mesh))) == bits(state)
    checkpoints.close()
    return half


def test_killed_in_the_middle_of_a_save(tmp_path, caplog):
    delays = [0.0, random.Random(0).uniform(0.05, 1.0)]
    halves = [kill_and_check(tmp_path / "run", delay) for delay in delays]
    assert any(halves), "no kill fell into a save"
    assert caplog.text.count("stopped in the middle of saving") == sum(halves)


def test_no_room_is_one_line_and_the_run_may_go_on(tmp_path):
    run = start("full", tmp_path)
    output, errors = run.communicate(timeout=100)
    lines = output.splitlines()
    assert len(lines) == 3, output + errors
    assert lines[0].startswith(f"refused cannot save step 2 in {tmp_path}: a file would be larger")
    assert lines[1:] == ["steps 1", "steps 1 3"]
    assert "Traceback" not in errors
    assert sorted(p.name for p in tmp_path.iterdir()) == ["00000001", "00000003"]


def test_two_processes_save_agree_and_restore_and_one_reads_it_too(tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    runs = [start("several", tmp_path, port, index, devices=4) for index in range(2)]
    for run in runs:
        output, errors = run.communicate(timeout=100)
        assert output.endswith("agreed\n"), errors
    assert sorted(p.name for p in tmp_path.iterdir()) == ["00000002", "00000003.torn"]
    state = make_state(make_mesh({"data": 1}, jax.devices()[:1]), seed=2, width=WIDTH)
    assert bits(Checkpoints(tmp_path).restore_params(2, ema=False)) == bits(flatten(state.params))
