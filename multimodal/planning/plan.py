"""What a run takes on a kind of device: memory, work, traffic, time and cost."""

import dataclasses
import math
import os
from collections import Counter
from typing import Any

import jax

from multimodal import experiment
from multimodal.config import Config
from multimodal.experiment import Experiment
from multimodal.parallel.chips import Chip, chip_of
from multimodal.planning.program import Program, compile_step, state_bytes
from multimodal.planning.stand_in import stand_in


@dataclasses.dataclass(frozen=True)
class Assumptions:
    """What no compiler knows: the price of a chip for an hour, and how many bytes a second each
    host writes to where checkpoints are kept."""

    price: float | None = None
    checkpoint_bandwidth: float = 0.5e9


@dataclasses.dataclass(frozen=True)
class Bound:
    """Seconds of a step, were only one thing to limit it; None where a chip's figure is unknown."""

    compute: float | None
    memory: float | None
    interconnect: float | None
    network: float | None

    @property
    def seconds(self) -> float | None:
        known = [x for x in dataclasses.astuple(self) if x is not None]
        return max(known) if known else None

    @property
    def by(self) -> str:
        known = {k: v for k, v in dataclasses.asdict(self).items() if v is not None}
        return max(known, key=known.get) if known else "unknown"


@dataclasses.dataclass(frozen=True)
class Plan:
    """A run on devices of one kind, with a program and its bound for each kind of step."""

    config: Config
    topology: str
    mesh: dict[str, int]
    devices: tuple[jax.Device, ...]
    chip: Chip | None
    programs: tuple[Program, ...]
    bounds: tuple[Bound, ...]
    state: dict[str, int]
    checkpoint_bytes: int
    assumptions: Assumptions

    @property
    def capacity(self) -> int | None:
        """Bytes of a device's memory; simulated devices share this machine's."""
        if self.chip:
            return self.chip.hbm_bytes // self.chip.devices
        if self.devices[0].platform != "cpu":
            return None
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // len(self.devices)

    @property
    def hbm_bytes(self) -> int:
        return max(program.hbm_bytes for program in self.programs)

    @property
    def fits(self) -> bool | None:
        return None if self.capacity is None else self.hbm_bytes <= self.capacity

    @property
    def chips(self) -> float:
        return len(self.devices) / (self.chip.devices if self.chip else 1)

    @property
    def hosts(self) -> int:
        return len({device.process_index for device in self.devices})

    @property
    def longest(self) -> int:
        """The number of the program whose step takes longest."""
        return max(range(len(self.programs)), key=lambda i: self.bounds[i].seconds or 0)

    def shares(self) -> list[float]:
        """The part of all steps that each program is run for."""
        steps, tasks = self.config.steps, self.config.tasks
        weights = {name: task.weight for name, task in tasks.items()}
        shares = []
        for i, program in enumerate(self.programs):
            after = [p.first for p in self.programs[i + 1 :] if p.task == program.task]
            length = max(min([*after, steps]) - program.first, 0) / steps
            shares.append(length * weights[program.task] / sum(weights.values()))
        return shares

    @property
    def run_seconds(self) -> float | None:
        """The lower bound of all steps together; evaluation, saving and waiting are not in it."""
        seconds = [bound.seconds for bound in self.bounds]
        if None in seconds:
            return None
        parts = zip(self.shares(), seconds, strict=True)
        return self.config.steps * sum(share * second for share, second in parts)

    def figures(self) -> dict[str, Any]:
        """All of it as JSON values; per-step figures are those of the step that takes longest."""
        program, bound = self.programs[self.longest], self.bounds[self.longest]
        run, step = self.run_seconds, bound.seconds
        rate = self.config.steps * self.config.batch_size / run if run else None
        peak = self.chip.flops * self.chips if self.chip else None
        hours = run * self.chips / 3600 if run else None
        price = self.assumptions.price
        return {
            "name": self.config.name,
            "topology": self.topology,
            "devices": len(self.devices),
            "hosts": self.hosts,
            "chip": self.chip.name if self.chip else None,
            "mesh": dict(self.mesh),
            "batch_size": self.config.batch_size,
            "accumulate": self.config.accumulate,
            "fits": self.fits,
            "hbm_bytes_per_device": self.hbm_bytes,
            "hbm_capacity_bytes": self.capacity,
            "host_bytes_per_device": max(p.host_bytes for p in self.programs),
            "memory_per_device": max(self.programs, key=lambda p: p.hbm_bytes).memory,
            "state_bytes_per_device": sum(self.state.values()),
            "model_flops_per_step": program.model_flops,
            "hardware_flops_per_step": program.hardware_flops,
            "hbm_traffic_bytes_per_device": program.traffic,
            "collective_bytes_per_device": sum(c.bytes * c.times for c in program.collectives),
            "wire_bytes_per_device": program.wire_bytes,
            "collectives": [
                {"kind": kind, "axes": axes, "times": n, "bytes": size, "wire_bytes": wire}
                for (kind, axes), (n, size, wire) in by_axis(program).items()
            ],
            "bound_seconds": dataclasses.asdict(bound),
            "bound_by": bound.by,
            "step_seconds_lower_bound": step,
            "mfu_upper_bound": min(program.model_flops / (step * peak), 1.0)
            if step and peak
            else None,
            "examples_per_second": rate,
            "examples_per_second_per_host": rate / self.hosts if rate else None,
            "steps": self.config.steps,
            "days": run / 86400 if run else None,
            "chip_hours": hours,
            "price_per_chip_hour": price,
            "cost": hours * price if hours and price is not None else None,
            "checkpoint_bytes": self.checkpoint_bytes,
            "checkpoint_seconds": self.checkpoint_bytes
            / (self.assumptions.checkpoint_bandwidth * self.hosts),
            "programs": [
                {
                    "task": p.task,
                    "first_step": p.first,
                    "share_of_steps": share,
                    "hbm_bytes_per_device": p.hbm_bytes,
                    "model_flops": p.model_flops,
                    "hardware_flops": p.hardware_flops,
                    "wire_bytes_per_device": p.wire_bytes,
                    "step_seconds_lower_bound": b.seconds,
                    "compile_seconds": p.compile_seconds,
                }
                for p, b, share in zip(self.programs, self.bounds, self.shares(), strict=True)
            ],
        }


def plan(
    config: Config,
    topology: str,
    devices: list[jax.Device],
    assumptions: Assumptions = Assumptions(),  # noqa: B008, it is frozen
) -> Plan:
    """Compiles every kind of step of a run for `devices`. No data and no tokenizer are needed.

    Raises UserError where config and devices do not go together, and DoesNotFit where the compiler
    gives up.
    """
    run = build(config, devices)
    programs = tuple(
        compile_step(run, name, first)
        for name, task in run.tasks.items()
        for first, _ in task.steps
    )
    return assemble(run, topology, programs, assumptions)


def build(config: Config, devices: list[jax.Device]) -> Experiment:
    """The run with a stand-in for its tokenizer."""
    return experiment.build(config, devices, stand_in(config))


def assemble(
    run: Experiment, topology: str, programs: tuple[Program, ...], assumptions: Assumptions
) -> Plan:
    devices = tuple(run.mesh.devices.flat)
    chip = chip_of(devices[0])
    kept = jax.tree.leaves(run.abstract_state)
    return Plan(
        run.config,
        topology,
        dict(run.mesh.shape) | {"slices": run.config.mesh.slices},
        devices,
        chip,
        programs,
        tuple(bound(program, devices, chip) for program in programs),
        state_bytes(run),
        sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in kept),
        assumptions,
    )


def bound(program: Program, devices: tuple[jax.Device, ...], chip: Chip | None) -> Bound:
    """The least that a step takes on each of a chip's four resources."""
    if chip is None:
        return Bound(None, None, None, None)
    share = chip.devices  # devices share their chip's figures
    islands = [_island(device) for device in devices]
    crossing = sum(c.crossing_bytes(islands) for c in program.collectives)
    return Bound(
        program.hardware_flops * share / (len(devices) * chip.flops),
        program.traffic * share / chip.hbm_bandwidth,
        program.wire_bytes * share / chip.interconnect,
        crossing * share / chip.network if len(set(islands)) > 1 else None,
    )


def by_axis(program: Program) -> dict[tuple[str, str], tuple[int, int, int]]:
    """{(kind, mesh axes): (how many, bytes, bytes on the wire)} a step and device."""
    found: dict[tuple[str, str], Counter] = {}
    for c in program.collectives:
        entry = found.setdefault((c.kind, "+".join(sorted(c.axes)) or "none"), Counter())
        entry.update(times=c.times, bytes=c.bytes * c.times, wire=c.wire_bytes)
    ordered = sorted(found.items(), key=lambda item: -item[1]["wire"])
    return {key: (n["times"], n["bytes"], n["wire"]) for key, n in ordered}


def _island(device: jax.Device) -> int:
    """Which devices the fast links join: a TPU slice, the GPUs of a node."""
    if device.platform == "gpu":
        return device.process_index
    return getattr(device, "slice_index", 0) or 0
