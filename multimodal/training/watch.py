"""What is watched while a run goes on: speed, waiting, memory, and records that are broken."""

import contextlib
import json
import resource
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from multimodal.errors import UserError
from multimodal.parallel.chips import peak_flops


class Meter:
    """Speed since the last reading: seconds a step, examples a second, share of time lost waiting
    for input, MFU where the device's peak is known, peak memory."""

    def __init__(self, batch_size: int, devices: np.ndarray):
        self.batch_size, self.devices, self.flops = batch_size, devices, 0
        self.since, self.step, self.waited, self.idle = time.monotonic(), None, 0.0, 0.0

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Around waiting for a batch while the devices have nothing to do."""
        start = time.monotonic()
        yield
        self.waited += time.monotonic() - start

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Around what is not training."""
        start = time.monotonic()
        yield
        self.idle += time.monotonic() - start

    def stepped(self, flops: int) -> None:
        """After a step that had so much to compute; steps of several tasks differ."""
        self.flops += flops

    def read(self, step: int, pending: jax.Array) -> dict[str, float]:
        """The figures up to `step`, once `pending` is computed; then starts anew. The first reading
        holds the compilation, so it gives no speed."""
        jax.block_until_ready(pending)
        now = time.monotonic()
        seconds = now - self.since - self.idle
        figures = {"train/peak_memory_bytes": float(_peak_memory(self.devices.flat[0]))}
        if step != self.step:
            figures["train/input_wait"] = self.waited / max(seconds, 1e-9)
        if self.step is None:
            figures["train/first_step_seconds"] = seconds
        elif step > self.step:
            rate = (step - self.step) / seconds
            figures["train/step_seconds"] = 1 / rate
            figures["train/examples_per_second"] = rate * self.batch_size
            peak = peak_flops(self.devices.flat[0])
            if peak:
                figures["train/mfu"] = self.flops / (seconds * peak * self.devices.size)
        self.since, self.step, self.waited, self.idle, self.flops = now, step, 0.0, 0.0, 0
        return figures


def _peak_memory(device: jax.Device) -> int:
    """Bytes: of the device where it tells, else of this process."""
    if device.process_index == jax.process_index():
        stats = device.memory_stats() or {}
        if "peak_bytes_in_use" in stats:
            return stats["peak_bytes_in_use"]
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class BrokenRecords:
    """Counts records that could not be read and lists them in `broken-PROCESS.jsonl` of the
    run folder; each process its own."""

    enough = 1000  # examples of a task before its share is judged

    def __init__(self, workdir: Path, allowed: Mapping[str, float]):
        self.path = workdir / f"broken-{jax.process_index()}.jsonl"
        self.allowed = dict(allowed)
        self.seen, self.bad = dict.fromkeys(allowed, 0), dict.fromkeys(allowed, 0)

    def note(self, task: str, batch: Mapping[str, Any]) -> None:
        """Counts the broken records of this process's part of a batch, and lists them."""
        self.seen[task] += len(batch["valid"])
        self.bad[task] += len(batch["broken"])
        if batch["broken"]:
            with self.path.open("a") as file:
                for key, reason in batch["broken"]:
                    file.write(json.dumps({"task": task, "key": key, "reason": reason}) + "\n")

    def check(self) -> int:
        """How many there are on all processes. All of them must call it, and all raise UserError
        when a task's share is above its limit."""
        counts = np.array([[self.seen[task], self.bad[task]] for task in self.allowed])
        if jax.process_count() > 1:
            counts = multihost_utils.process_allgather(counts).sum(0)
        for (task, allowed), (seen, bad) in zip(self.allowed.items(), counts, strict=True):
            hopeless = bad == seen >= 64
            if bad > allowed * seen and (seen >= self.enough or hopeless):
                raise UserError(
                    f"task {task}: {bad / seen:.1%} of {seen} records are broken, more than "
                    f"config.tasks.{task}.data.max_broken={allowed}; {self.path.parent}/broken-*."
                    "jsonl lists them with the reason of each"
                )
        return int(counts[:, 1].sum())
