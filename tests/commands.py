"""The commands as users run them: in processes of their own, on simulated devices."""

import os
import subprocess
import sys
from pathlib import Path

# A third of the time to compile; steps are slower, which at toy size does not matter.
_QUICK = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_use_fusion_emitters=false"
)
# For a test that two programs, fused alike, give the same to the bit.
FUSED = {"xla_cpu_use_fusion_emitters": True}
ROOT = Path(__file__).parents[1]


def flags(devices: int, quick: bool = True) -> str:
    """XLA_FLAGS of so many simulated devices, whose programs are compiled in a hurry."""
    return f"--xla_force_host_platform_device_count={devices} {_QUICK if quick else ''}"


def start(command: str, *arguments: str, devices: int = 1, **environment: str) -> subprocess.Popen:
    """`python -m multimodal.COMMAND ARGUMENTS`; output and errors are piped."""
    given = {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    # The planner hands its flags to libtpu, which ends where it does not know one.
    given["XLA_FLAGS"] = flags(devices, quick=command != "plan")
    return subprocess.Popen(
        [sys.executable, "-m", f"multimodal.{command}", *arguments],
        cwd=ROOT,
        env=os.environ | given | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen, timeout: float = 300) -> tuple[int, str, str]:
    """Exit status, output and errors; a process that hangs is killed and fails the test."""
    try:
        output, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        output, errors = process.communicate()
        raise AssertionError(f"no end after {timeout} s:\n{output}\n{errors}") from None
    return process.returncode, output, errors


def caching_compilations(folder: Path) -> dict[str, str]:
    """Environment in which processes share what they compile, so that each starts in seconds."""
    return {
        "JAX_ENABLE_COMPILATION_CACHE": "true",
        "JAX_COMPILATION_CACHE_DIR": str(folder),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
