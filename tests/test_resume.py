"""A run that is killed and started again, against one that is left alone."""

import json
import random
import signal
import time
from pathlib import Path

import jax
import pytest

from multimodal.checkpoint.bundle import Checkpoints
from tests.commands import caching_compilations, finish, start
from tests.toy import CONFIGS, build, replace, toy_config

STEPS, EVERY = 24, 4
# Two tasks with positions of their own, dropout, and a moving average, on two devices.
SETTINGS = {"ema": "0.9", "mesh.data": "1", "mesh.fsdp": "2", "checkpoints.every": str(EVERY)}
CONFIG = f"--config={CONFIGS / 'toy.py'}:family=uniter,steps={STEPS},batch=8,train=64"
# Figures that depend on the clock or the machine.
MEASURED = ("seconds", "compile_cached", "per_second", "input_wait", "memory_bytes", "mfu")


def launch(workdir: Path, shared: Path, workers: int):
    settings = SETTINGS | {f"tasks.{task}.data.workers": workers for task in ("words", "pairs")}
    return start(
        "train",
        CONFIG,
        f"--workdir={workdir}",
        *[f"--config.{name}={value}" for name, value in settings.items()],
        devices=2,
        MULTIMODAL_DATA=str(shared / "data"),
        **caching_compilations(shared / "compiled"),
    )


def lines(workdir: Path) -> list[dict]:
    path = workdir / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def computed(workdir: Path) -> list[dict]:
    """Lines of metrics.jsonl without what is measured."""
    return [{k: v for k, v in line.items() if not k.endswith(MEASURED)} for line in lines(workdir)]


def kill_at(process, workdir: Path, step: int, delay: float) -> None:
    """SIGKILL `delay` seconds after `step` has been logged."""
    while not (known := lines(workdir)) or known[-1]["step"] < step:
        assert process.poll() is None, finish(process)
        time.sleep(0.002)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    status, _, errors = finish(process)
    assert status == -signal.SIGKILL, errors


def final(workdir: Path):
    """State and record of the last step."""
    config = replace(toy_config("uniter", steps=STEPS, batch_size=8), ema=0.9)
    state = build(config, devices=2, data=1, fsdp=2).abstract_state
    checkpoints = Checkpoints(workdir / "checkpoints")
    assert checkpoints.latest() == STEPS
    return jax.device_get(checkpoints.restore(STEPS, state)), checkpoints.meta(STEPS)


@pytest.mark.parametrize("seed", [0])
def test_killed_again_and_again_ends_bitwise_as_if_never_interrupted(tmp_path, seed):
    undisturbed = launch(tmp_path / "whole", tmp_path, workers=0)
    status, _, errors = finish(undisturbed)
    assert status == 0, errors

    rng = random.Random(seed)
    killed_at = sorted(rng.sample(range(1, STEPS - 1), 4))
    delays = [rng.uniform(0, 0.05) for _ in killed_at]
    print(f"killed {delays} s after steps {killed_at}")
    workdir = tmp_path / "killed"
    for workers, step, delay in zip([0, 0, 2, 2], killed_at, delays, strict=True):
        kill_at(launch(workdir, tmp_path, workers), workdir, step, delay)
    status, _, errors = finish(launch(workdir, tmp_path, workers=0))
    assert status == 0, errors
    assert "resumed from step" in errors

    (state, meta), (wanted, wanted_meta) = final(workdir), final(tmp_path / "whole")
    assert jax.tree.structure(state) == jax.tree.structure(wanted)
    for path, leaf in jax.tree.leaves_with_path(state):
        assert leaf.tobytes() == at(wanted, path).tobytes(), jax.tree_util.keystr(path)
    assert meta["positions"] == wanted_meta["positions"]
    assert sum(meta["positions"].values()) == STEPS
    assert min(meta["positions"].values()) > 0
    # The same loss to the bit at every step: the same data, in the same order; and no line twice.
    assert computed(workdir) == computed(tmp_path / "whole")
    assert [line["step"] for line in lines(workdir)] == [*range(1, STEPS + 1)]


def at(tree, path):
    return dict(jax.tree.leaves_with_path(tree))[path]
