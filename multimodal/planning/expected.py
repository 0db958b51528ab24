"""What a run logs of its plan beside what it measures, without compiling anything twice."""

from multimodal.experiment import Experiment
from multimodal.parallel.chips import peak_flops
from multimodal.planning.program import state_bytes


def expected(run: Experiment) -> dict[str, float]:
    """`planned/...` of the first task's last kind of step, for metrics.jsonl: what it has to
    compute, beside `train/mfu`; the state on each device, beside `train/peak_memory_bytes`; and,
    where the device's peak is known, the least seconds of a step, beside `train/step_seconds`."""
    flops, devices = run.model_flops(), run.mesh.devices
    figures = {
        "planned/model_flops": float(flops),
        "planned/state_bytes": float(sum(state_bytes(run).values())),
    }
    if peak := peak_flops(devices.flat[0]):
        figures["planned/step_seconds"] = flops / (peak * devices.size)
    return figures
