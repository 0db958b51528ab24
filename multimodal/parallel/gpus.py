"""GPUs to compile for where there are none."""

import importlib.util
import math
import re

import jax
from jax.experimental import topologies

from multimodal.errors import UserError

# What the compiler asks of a GPU: its cores and their shared memory, its second cache, memory and
# clock. The figures are of XLA's own descriptions (SXM modules); the memory is what CUDA reports.
_ASKED: dict[str, dict[str, str]] = {
    "a100": {
        "core_count": "108", "fpus_per_core": "64", "shared_memory_per_core": "167936",
        "shared_memory_per_block_optin": "166912", "l2_cache_size": "41943040",
        "memory_bandwidth": "2039040000000", "device_memory_size": "85100068864",
        "clock_rate_ghz": "1.41", "cuda_compute_capability": "{ major: 8 }",
    },
    "h100": {
        "core_count": "132", "fpus_per_core": "128", "shared_memory_per_core": "233472",
        "shared_memory_per_block_optin": "232448", "l2_cache_size": "52428800",
        "memory_bandwidth": "3352320000000", "device_memory_size": "84942979072",
        "clock_rate_ghz": "1.98", "cuda_compute_capability": "{ major: 9 }",
    },
}  # fmt: skip
_ASKED["h200"] = _ASKED["h100"] | {
    "memory_bandwidth": "4800000000000",
    "device_memory_size": "151397597184",
}
_ALIKE = {
    "threads_per_block_limit": 1024, "threads_per_warp": 32, "shared_memory_per_block": 49152,
    "threads_per_core_limit": 2048, "registers_per_core_limit": 65536,
    "registers_per_block_limit": 65536, "block_dim_limit_x": 2**31 - 1, "block_dim_limit_y": 65535,
    "block_dim_limit_z": 65535, "thread_dim_limit_x": 1024, "thread_dim_limit_y": 1024,
    "thread_dim_limit_z": 64,
}  # fmt: skip
_KIND = {"a100": "NVIDIA A100-SXM4-80GB", "h100": "NVIDIA H100 80GB HBM3", "h200": "NVIDIA H200"}
NAMES = tuple(_KIND)

# What tries out kernels on a GPU cannot be asked without one.
COMPILER_OPTIONS = {"xla_gpu_autotune_level": 0, "xla_gpu_enable_triton_gemm": False}


def gpu_devices(name: str) -> list[jax.Device]:
    """Devices of `h100:8`, eight on one node, or `h100:4x8`, on each of four: programs compile for
    them (with COMPILER_OPTIONS), but cannot run.

    Raises UserError without the CUDA plugin of jax, and for a name of another form.
    """
    match = re.fullmatch(r"(\w+):(?:(\d+)x)?(\d+)", name)
    if not match or match[1] not in _KIND or not int(match[2] or 1) * int(match[3]):
        raise UserError(f"no GPU topology {name!r}; name one such as h100:8 or h100:4x8")
    if not any(importlib.util.find_spec(f"jax_cuda{n}_plugin") for n in (12, 13)):
        raise UserError(
            f"compiling for {name} needs jax's CUDA plugin, with or without a GPU: "
            "pip install 'jax[cuda13]'"
        )
    nodes, each = int(match[2] or 1), int(match[3])
    topology = topologies.get_topology_desc(
        "",
        platform="cuda",
        target_config=_description(match[1]),
        topology=f"1x{nodes}x{each}",
    )
    assert len(topology.devices) == math.prod((nodes, each))
    return list(topology.devices)


def _description(chip: str) -> str:
    """XLA's GpuTargetConfigProto, as text."""
    asked = _ALIKE | _ASKED[chip]
    lines = [f"{k} {v}" if str(v).startswith("{") else f"{k}: {v}" for k, v in asked.items()]
    info = "gpu_device_info { " + " ".join(lines) + " }"
    dnn = "dnn_version_info { major: 9 minor: 10 }"
    return f'{info} platform_name: "CUDA" {dnn} device_description_str: "{_KIND[chip]}"'
