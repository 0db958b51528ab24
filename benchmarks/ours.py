"""Our side: the step of a run as `multimodal.train` takes it, on the first device."""

import tempfile
import time
from pathlib import Path
from typing import Any

import jax
from safetensors.numpy import save_file

from benchmarks import shapes
from benchmarks.profile import Event, summary
from multimodal import experiment
from multimodal.interop.convert import export_weights
from multimodal.parallel.chips import peak_flops
from multimodal.parallel.processes import to_global
from multimodal.planning.stand_in import stand_in


class Side:
    """A model of `shapes.named`, `stacks` setting options of its Transformers."""

    def __init__(self, shape: str, batch_size: int, stacks: dict[str, Any], dtype: str = "float32"):
        config = shapes.run(shapes.named(shape, **stacks), batch_size, dtype)
        self.run = experiment.build(config, jax.devices()[:1], stand_in(config))
        self.device = self.run.mesh.devices.flat[0]
        with jax.set_mesh(self.run.mesh):
            self.state = self.run.initialise()
            self.batch = to_global(shapes.batch(config), self.run.mesh)
            self.step = self.run.tasks["pairs"].step.lower(self.state, self.batch).compile()

    def export(self, path: str, layout: str = "huggingface_clip") -> None:
        """Writes the parameters, as those of a CLIPModel or, in the layout "", as they are."""
        params = jax.device_get(self.state.params)
        save_file(export_weights(layout, params) if layout else params, path)

    def facts(self) -> dict[str, Any]:
        return {
            "name": f"multimodal, jax {jax.__version__}",
            "parameters": self.run.parameter_count,
            "flops": self.run.model_flops(),
            "device": self.device.device_kind,
            "peak_flops": peak_flops(self.device),
        }

    def steps(self, count: int) -> dict[str, list[float]]:
        """Seconds and CPU-seconds of each step, and its loss before it."""
        found: dict[str, list[float]] = {"seconds": [], "cpu": [], "loss": []}
        for _ in range(count):
            clock, cpu = time.perf_counter(), time.process_time()
            self.state, figures = self.step(self.state, self.batch)
            jax.block_until_ready(self.state)
            found["seconds"].append(time.perf_counter() - clock)
            found["cpu"].append(time.process_time() - cpu)
            found["loss"].append(float(figures["loss"]))
        return found

    def measure(self, seconds: float) -> dict[str, float | None]:
        """Seconds a step over about so many seconds of steps, two of them in flight as in training,
        and the most bytes of the device's memory that were in use."""
        self._go(2)
        each = self._go(max(3, round(seconds / self._go(2))))
        stats = self.device.memory_stats() or {}
        return {"seconds": each, "peak_bytes": stats.get("peak_bytes_in_use")}

    def _go(self, count: int) -> float:
        begin, before = time.perf_counter(), None
        for _ in range(count):
            self.state, figures = self.step(self.state, self.batch)
            jax.block_until_ready(before)
            before = figures
        jax.block_until_ready(self.state)
        return (time.perf_counter() - begin) / count

    def profile(self, count: int) -> str:
        """A table of where the time of so many steps goes."""
        with tempfile.TemporaryDirectory() as folder:
            with jax.profiler.trace(folder):
                self.steps(count)
            (file,) = Path(folder).rglob("*.xplane.pb")
            planes = jax.profiler.ProfileData.from_file(str(file)).planes
            events = [
                Event(stats["hlo_op"], event.duration_ns / 1e9)
                for plane in planes
                for line in plane.lines
                for event in line.events
                if "hlo_op" in (stats := dict(event.stats))
            ]
        return summary(events, self.step.as_text(), count)
