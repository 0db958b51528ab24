"""Do disks and cores feed the run? python -m multimodal.benchmark_input
--config=FILE[:key=value,...] [--examples_per_second=N | --step_seconds=N] [--hosts=N]
[--workers=0,1,2] [--seconds=N] [--json=FILE].

Reads, decodes, augments, tokenises and batches as training does, without a model or a device: where
the time of an example goes, and how many examples a second this host makes with how many workers.
What the run needs is told by its examples a second over all hosts, or the seconds of its step.
"""

import dataclasses
import json
import math
import os
from pathlib import Path
from typing import Any

from absl import flags

from multimodal.command import config_from_flags, run
from multimodal.config import Config
from multimodal.data.throughput import Profile, Rate, profile, rate
from multimodal.errors import UserError
from multimodal.experiment import data_dir

FLAGS = flags.FLAGS
_MOST = 256  # examples a batch while measuring: the time of an example does not depend on it
_ENOUGH = 1.2  # times what is needed, so that a slow moment of the disks does not show
_NAMES = {"read": "read", "decode": "decode", "augment": "augment, fit", "tokenise": "tokenise"}


def benchmark(config: Config, workers: list[int], hosts: int, seconds: float) -> dict[str, Any]:
    """`{task: (Profile, [Rate, ...])}` of this host as one of `hosts`. Raises UserError."""
    if config.batch_size % hosts:
        raise UserError(f"--hosts={hosts} do not divide config.batch_size={config.batch_size}")
    options = {
        "batch_size": min(config.batch_size // hosts, _MOST),
        "seed": config.seed,
        "seconds": seconds,
        "classes": getattr(config.model, "classes", None),
        "data_dir": data_dir(config),
    }
    found = {}
    for name, task in config.tasks.items():
        try:
            first = profile(task.data, config.preprocessing, **options)
            rates = [rate(task.data, config.preprocessing, n, **options) for n in workers]
        except UserError as error:
            raise UserError(f"config.tasks.{name}: {error}") from error
        found[name] = (first, rates)
    return found


def table(found: Profile, rates: list[Rate]) -> str:
    """What was measured of one task, for people."""
    seen = f"; pictures of {found.picture[1]:.0f} x {found.picture[0]:.0f}" if found.picture else ""
    lines = [
        f"{found.records:,} records, shards={found.shards:,}, {found.record_bytes / 1e3:.1f} kB "
        f"each{seen}; {found.disk_bytes / 1e3:.1f} kB of it came from disks, the rest from memory",
        f"{'stage':<14}{'CPU ms':>10}{'share':>8}{'waiting ms':>12}",
    ]
    for name, spent in found.stages.items():
        waiting = f"{1e3 * found.waiting:>12.3f}" if name == "read" else ""
        lines.append(
            f"{_NAMES.get(name, name):<14}{1e3 * spent.cpu:>10.3f}"
            f"{spent.cpu / found.cpu:>8.0%}{waiting}"
        )
    lines.append(f"{'an example':<14}{1e3 * found.cpu:>10.3f}")
    lines.append(f"{'workers':<14}{'examples/s':>10}{'a CPU-second':>14}{'MB/s read':>11}")
    for one in rates:
        lines.append(
            f"{one.workers:<14}{one.per_second:>10,.0f}{one.per_cpu_second:>14,.0f}"
            f"{one.per_second * found.record_bytes / 1e6:>11.1f}"
        )
    return "\n".join(lines)


def verdict(
    found: Profile, rates: list[Rate], need: float | None, hosts: int, cores: int, size: int
) -> tuple[bool | None, str]:
    """Whether this host makes the `need` examples a second that one host must (None: not asked),
    and a line that says so and what to change."""
    best = max(rates, key=lambda one: one.per_second)
    have = f"{best.per_second:,.0f} examples/s with workers={best.workers}"
    if found.shards < hosts:
        return False, (
            f"shards={found.shards} are fewer than hosts={hosts}: write the data to at least "
            f"{hosts} files"
        )
    if need is None:
        return None, (
            f"this host makes {have}; --step_seconds or --examples_per_second tells whether that "
            "is enough"
        )
    must = f"{best.per_second / need:.2f} times the {need:,.0f} that it must"
    if best.per_second >= need * _ENOUGH:
        fewest = min(o.workers for o in rates if o.per_second >= need * _ENOUGH)
        return True, f"enough: this host makes {have}, {must}; workers={fewest} will do"
    told = "too slow" if best.per_second < need else "hardly enough"
    wanted = math.ceil(need * _ENOUGH / (best.per_cpu_second or 1 / found.cpu))
    if found.waiting > found.cpu:
        change = (
            f"reading waits {1e3 * found.waiting:.1f} ms an example for "
            f"{found.record_bytes / 1e3:.0f} kB: use faster or local disks, shards on more of "
            "them, or more workers, which wait side by side"
        )
    elif max(o.workers for o in rates) < wanted <= cores:
        change = f"set config.tasks.TASK.data.workers={wanted}, of {cores} cores"
    else:
        change = (
            f"it takes {wanted} free cores of {cores}, which have other work: give it more of them"
            if wanted <= cores
            else f"it takes {wanted} free cores and this host has {cores}: use more hosts"
        )
        if smaller := _smaller(found, size):
            change += (
                f", or store pictures at {smaller} pixels, since decoding is "
                f"{found.stages['decode'].cpu / found.cpu:.0%} of the work"
            )
    return False, f"{told}: this host makes {have}, {must}; {change}"


def _smaller(found: Profile, size: int) -> int | None:
    """The short side to store pictures at, where it would save a third of their pixels."""
    if found.picture is None or "decode" not in found.stages:
        return None
    side = round(1.15 * size / 8) * 8
    return side if min(found.picture) > 1.25 * side else None


def needed(
    batch_size: int, hosts: int, examples_per_second: float | None, step_seconds: float | None
) -> float | None:
    """Examples a second that each host must make; None where nothing is asked. Raises UserError."""
    given = {"hosts": hosts, "examples_per_second": examples_per_second}
    for name, value in (given | {"step_seconds": step_seconds}).items():
        if value is not None and value <= 0:
            raise UserError(f"--{name}={value}: must be positive")
    if examples_per_second and step_seconds:
        raise UserError("--examples_per_second and --step_seconds say the same; give one of them")
    if step_seconds:
        return batch_size / step_seconds / hosts
    return examples_per_second and examples_per_second / hosts


def worker_counts(given: str) -> list[int]:
    """0 and powers of two up to the cores, and all of them; or what is given. Raises UserError."""
    if not given:
        cores = os.cpu_count() or 1
        return sorted({0, cores, *(1 << i for i in range(cores.bit_length()) if 1 << i <= cores)})
    if not all(part.isdigit() for part in given.split(",")):
        raise UserError(f"--workers={given}: write numbers with commas, such as 0,2,8")
    return [int(part) for part in given.split(",")]


def main(argv: list[str]) -> None:
    config = config_from_flags()
    need = needed(config.batch_size, FLAGS.hosts, FLAGS.examples_per_second, FLAGS.step_seconds)
    workers = worker_counts(FLAGS.workers)
    if FLAGS.json and not Path(FLAGS.json).absolute().parent.is_dir():
        raise UserError(f"--json={FLAGS.json}: there is no such folder")
    cores, facts = os.cpu_count() or 1, {}
    for name, (found, rates) in benchmark(config, workers, FLAGS.hosts, FLAGS.seconds).items():
        size = config.preprocessing.image_size
        enough, told = verdict(found, rates, need, FLAGS.hosts, cores, size)
        told = told.replace("TASK", name)
        print(f"task {name}: {table(found, rates)}\n{told}")
        facts[name] = dataclasses.asdict(found) | {
            "rates": [dataclasses.asdict(one) for one in rates],
            "needed_per_second": need,
            "enough": enough,
            "verdict": told,
        }
    if FLAGS.json:
        told = {"config": config.name, "hosts": FLAGS.hosts, "cores": cores, "tasks": facts}
        Path(FLAGS.json).write_text(json.dumps(told, indent=2) + "\n")


def define_flags() -> None:
    flags.DEFINE_float("seconds", 5.0, "Of each measurement.")
    flags.DEFINE_string("workers", "", "Numbers of workers to try, such as 0,2,8.")
    flags.DEFINE_integer("hosts", 1, "Hosts of the run; each makes its part of every batch.")
    flags.DEFINE_float("examples_per_second", None, "What the run takes, all hosts together.")
    flags.DEFINE_float("step_seconds", None, "What a step of config.batch_size takes.")
    flags.DEFINE_string("json", "", "File for the figures.")


if __name__ == "__main__":
    define_flags()
    run(main)
