"""One step of a run, compiled for devices that need not be there, and what the program needs."""

import dataclasses
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import jax

from multimodal.errors import UserError
from multimodal.experiment import Experiment
from multimodal.parallel import gpus
from multimodal.parallel.collectives import Collective, collectives
from multimodal.planning.traffic import hbm_bytes
from multimodal.training.flops import count_flops


@dataclasses.dataclass(frozen=True)
class Program:
    """The step of `task` from the run's step `first` on. `memory` is the device's, in bytes, part
    by part; its sum is what the compiler asks for. `traffic`: bytes to and from its main memory."""

    task: str
    first: int
    memory: dict[str, int]
    host_bytes: int
    collectives: tuple[Collective, ...]
    traffic: int
    model_flops: int
    hardware_flops: int
    compile_seconds: float

    @property
    def hbm_bytes(self) -> int:
        return sum(self.memory.values())

    @property
    def wire_bytes(self) -> int:
        return sum(c.wire_bytes for c in self.collectives)


def compile_step(run: Experiment, task: str, first: int) -> Program:
    """Compiles the real step: no array is allocated. Raises UserError where the compiler finds no
    room for it, naming how much it would take."""
    start = time.monotonic()
    step, batch = run.tasks[task].step_at(first), run.abstract_batch(task)
    needed = run.model_flops(task, first)
    with jax.set_mesh(run.mesh):
        flops = count_flops(step, run.abstract_state, batch)
        lowered = step.lower(run.abstract_state, batch)
        try:
            compiled = lowered.compile(_options(run))
            text = _text(lowered, compiled)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            raise DoesNotFit(" ".join(str(error).split())[:300]) from error
    stats = compiled.memory_analysis()
    return Program(
        task,
        first,
        _memory(run, task, stats),
        stats.host_argument_size_in_bytes + stats.host_temp_size_in_bytes,
        tuple(collectives(text, run.mesh)),
        hbm_bytes(text),
        needed,
        flops,
        time.monotonic() - start,
    )


class DoesNotFit(UserError):
    """The compiler gives up, as a step takes more memory than a device has."""


def _text(lowered: Any, compiled: Any) -> str:
    """The optimised program. That of a v5p may hold an instruction that the compiler writes but
    jaxlib cannot read back: it is compiled once more and written to a file."""
    try:
        return compiled.as_text()
    except jax.errors.JaxRuntimeError as error:
        if "RET_CHECK" not in str(error):
            raise
    with tempfile.TemporaryDirectory() as folder:
        lowered.compile({"xla_dump_to": folder, "xla_dump_hlo_as_text": True})
        (file,) = Path(folder).glob("*after_optimizations.txt")
        return file.read_text()


def _options(run: Experiment) -> dict[str, Any]:
    on_gpu = run.mesh.devices.flat[0].platform == "gpu"
    return gpus.COMPILER_OPTIONS if on_gpu else {}


def state_bytes(run: Experiment) -> dict[str, int]:
    """Bytes of the state on each device, from shapes and shardings alone."""
    state = run.abstract_state
    parts = {
        "parameters": state.params,
        "optimizer": (state.opt_state, state.step),
        "average": state.ema,
    }
    return {name: _local(part) for name, part in parts.items() if part is not None}


def _memory(run: Experiment, task: str, stats: Any) -> dict[str, int]:
    """The compiler's figures, split. Arguments are the state and the batch, by their shapes;
    gradients have the shapes and shardings of what is trained, the rest of the temporaries are
    activations; other is the code, padding and what a step returns beside the state."""
    paths = run.trained
    gradients = _local({k: v for k, v in run.abstract_state.params.items() if k in paths})
    temporary = stats.temp_size_in_bytes
    gradients = min(gradients, temporary)
    returned = stats.output_size_in_bytes - stats.alias_size_in_bytes
    parts = state_bytes(run) | {
        "batch": _local(run.abstract_batch(task)),
        "gradients": gradients,
        "activations": temporary - gradients,
    }
    total = stats.argument_size_in_bytes + returned + temporary + stats.generated_code_size_in_bytes
    return parts | {"other": total - sum(parts.values())}


def _local(tree: Any) -> int:
    """Bytes of a tree of abstract arrays on one device."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
        if leaf.sharding.memory_kind in (None, "device")
    )
