"""Devices to compile for where there are none."""

import contextlib
import importlib.util
import os

import jax
from jax.experimental import topologies

from multimodal.errors import UserError
from multimodal.parallel import gpus

# With these libtpu asks no metadata server what it runs on, and leaves its lock file alone. The
# accelerator named here has no say in what is compiled for.
_ALONE = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
_EXAMPLES = "v5e:4x4, v5e:16x16, v6e:16x16, v5p:4x4x4, v4:4x4x8, tpu7x:4x4x4"


def tpu_devices(name: str, slices: int = 1) -> list[jax.Device]:
    """Devices of `slices` TPU slices of topology `name` ("v5e:4x4"): programs compile for them, on
    a machine without any, but cannot run.

    Raises UserError without libtpu, and for a topology that it does not know.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            f"compiling for {name} needs libtpu, which is not installed: pip install 'jax[tpu]'"
        )
    for variable, value in _ALONE.items():
        os.environ.setdefault(variable, value)
    # A v4 chip has two cores that work as one device.
    options = {"chip_config_name": "megacore"} if name.startswith("v4:") else {}
    try:
        topology = topologies.get_topology_desc(name, platform="tpu", num_slices=slices, **options)
    except jax.errors.JaxRuntimeError as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"no TPU topology {name!r} ({reason}); name one such as {_EXAMPLES}"
        ) from None
    return list(topology.devices)


def devices_of(name: str, slices: int = 1) -> list[jax.Device]:
    """The devices of a topology: `v5e:16x16` and other TPU slices; `h100:8` and `h100:4x8` of
    several nodes; `cpu:8` for simulated ones.

    Raises UserError for a name that is none of these.
    """
    kind, _, count = name.partition(":")
    if kind in ("cpu", *gpus.NAMES) and slices > 1:
        raise UserError(f"{name} has no slices; those are of TPUs")
    if kind == "cpu":
        return _cpu_devices(name, count)
    if kind in gpus.NAMES:
        return gpus.gpu_devices(name)
    return tpu_devices(name, slices)


def simulate(name: str) -> None:
    """Lets this process have the CPU devices of `cpu:8`, before it has used any."""
    kind, _, count = name.partition(":")
    if kind == "cpu" and count.isdecimal() and int(count):
        with contextlib.suppress(RuntimeError):  # in use already: what there is has to do
            jax.config.update("jax_num_cpu_devices", int(count))


def _cpu_devices(name: str, count: str) -> list[jax.Device]:
    if not count.isdecimal() or int(count) < 1:
        raise UserError(f"topology {name!r}: say how many devices, as in cpu:8")
    found = jax.devices("cpu")
    if len(found) < int(count):
        raise UserError(f"topology {name}: this process has {len(found)} CPU devices")
    return found[: int(count)]
