"""Two real processes, with two devices each, evaluate like one."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from multimodal import config
from tests.evaluation import toy
from tests.evaluation.child import MESHES

ROOT = Path(__file__).parents[2]


def test_two_processes_find_what_one_finds(tmp_path):
    toy.write(str(tmp_path))
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    settings = {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "JAX_PLATFORMS": "cpu",
        "JAX_COORDINATOR_ADDRESS": address,
        "JAX_NUM_PROCESSES": "2",
    }
    children = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.evaluation.child", str(tmp_path)],
            cwd=ROOT,
            env=os.environ | settings | {"JAX_PROCESS_ID": str(i)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    evaluator = config.Retrieval(toy.data(), by="count", batch_size=32)
    model = toy.make_model()
    expected = toy.run(evaluator, model, toy.make_params(model), str(tmp_path), data=1).metrics
    for i, child in enumerate(children):
        output, errors = child.communicate(timeout=240)
        assert child.returncode == 0, errors
        index, metrics, detailed = json.loads(output.splitlines()[-1])
        assert index == i and detailed == [i == 0] * len(MESHES)
        for found in metrics:
            assert found == pytest.approx(expected, abs=1e-6)
