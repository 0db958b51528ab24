"""How fast this host makes training batches, and where the time goes."""

import dataclasses
import math
import multiprocessing
import os
import resource
import time
from typing import Any

import numpy as np

from multimodal import config
from multimodal.data import images
from multimodal.data.pipeline import batches, reader
from multimodal.data.record import BrokenRecord, look_up
from multimodal.data.stages import Spent, measuring
from multimodal.preprocessing import Preprocessing

STAGES = ("read", "decode", "augment", "tokenise", "collate")
_BLOCK = 512  # bytes, as the system counts what it reads from disks
_SAMPLE = 64  # records


@dataclasses.dataclass(frozen=True)
class Profile:
    """Per example, in one thread: seconds in each stage, and bytes.

    `augment` holds the model's own resize; `other` is what lies between the stages. `disk_bytes`
    came from disks, the rest of `record_bytes` from memory that the system keeps of files.
    `picture` is the mean [height, width] of stored pictures, None where there are none.
    """

    stages: dict[str, Spent]
    record_bytes: float
    disk_bytes: float
    picture: tuple[float, float] | None
    shards: int
    records: int
    examples: int

    @property
    def cpu(self) -> float:
        """CPU-seconds of an example."""
        return sum(spent.cpu for spent in self.stages.values())

    @property
    def waiting(self) -> float:
        """Seconds of an example in which reading waited for bytes."""
        read = self.stages.get("read", Spent())
        return max(0.0, read.clock - read.cpu)


@dataclasses.dataclass(frozen=True)
class Rate:
    """Examples of a second of the clock, and of a CPU-second of all processes of the input (0 where
    the system does not tell)."""

    workers: int
    per_second: float
    per_cpu_second: float


def profile(
    data: config.Data,
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    seed: int,
    seconds: float,
    **options: Any,
) -> Profile:
    """Makes batches one after another in this thread for about `seconds`; `options` are those of
    `pipeline.reader`. Raises UserError for data that cannot be read."""
    load, collate = reader(data, preprocessing, batch_size=batch_size, seed=seed, **options)
    collate([load(i) for i in range(batch_size)])  # files are opened, tables filled
    from_disk = -resource.getrusage(resource.RUSAGE_SELF).ru_inblock
    count, begin, cpu = 0, time.perf_counter(), -time.process_time()
    with measuring() as spent:
        while time.perf_counter() - begin < seconds:
            collate([load(batch_size + count + i) for i in range(batch_size)])
            count += batch_size
    cpu, clock = cpu + time.process_time(), time.perf_counter() - begin
    from_disk += resource.getrusage(resource.RUSAGE_SELF).ru_inblock
    others = Spent(clock, cpu)
    for one in spent.values():
        others = Spent(others.clock - one.clock, others.cpu - one.cpu)
    stages = {name: spent[name] for name in STAGES if name in spent} | {"other": others}
    sizes, shapes = _sample(load.source, load.fields)
    return Profile(
        stages={
            n: Spent(max(0, s.clock) / count, max(0, s.cpu) / count) for n, s in stages.items()
        },
        record_bytes=float(np.mean(sizes)) if sizes else 0.0,
        disk_bytes=from_disk * _BLOCK / count,
        picture=tuple(np.mean(shapes, axis=0).tolist()) if shapes else None,
        shards=load.source.shards,
        records=len(load.source),
        examples=count,
    )


def rate(
    data: config.Data,
    preprocessing: Preprocessing,
    workers: int,
    *,
    batch_size: int,
    seed: int,
    seconds: float,
    **options: Any,
) -> Rate:
    """Draws training batches as fast as they come for about `seconds`, once all workers are at
    work and what they had read ahead is used up."""
    chosen = dataclasses.replace(data, workers=workers)
    buffered = (min(4 * batch_size, 512) + 16) * max(1, workers) + 3 * batch_size
    with batches(chosen, preprocessing, batch_size=batch_size, seed=seed, **options) as stream:
        next(stream)
        count, begin = 0, time.perf_counter()
        while count < buffered and time.perf_counter() - begin < seconds:
            next(stream)
            count += batch_size
        count, begin, cpu = 0, time.perf_counter(), _cpu_seconds()
        while not count or time.perf_counter() - begin < seconds:
            next(stream)
            count += batch_size
        passed = time.perf_counter() - begin
        used = _cpu_seconds() - cpu
    return Rate(workers, count / passed, count / used if used > 0 else 0.0)


def _cpu_seconds() -> float:
    """Of this process and its worker processes; not a number where the system does not tell."""
    total, tick = time.process_time(), os.sysconf("SC_CLK_TCK")
    for child in multiprocessing.active_children():
        try:
            with open(f"/proc/{child.pid}/stat") as file:
                user, system = file.read().rpartition(")")[2].split()[11:13]
        except OSError:
            return math.nan
        total += (int(user) + int(system)) / tick
    return total


def _sample(source: Any, fields: dict[str, str]) -> tuple[list[int], list[tuple[int, int]]]:
    """Bytes of some records, and (height, width) of their pictures."""
    sizes, shapes = [], []
    for index in np.linspace(0, len(source) - 1, min(_SAMPLE, len(source))).astype(int):
        try:
            record = source[int(index)]
            sizes.append(_bytes(record))
            if "image" in fields:
                picture = look_up(record, fields["image"])
                if isinstance(picture, bytes):
                    shape = images.jpeg_size(picture) or images.decode(picture).shape[:2]
                else:
                    shape = picture.shape[:2]
                shapes.append(shape)
        except (BrokenRecord, images.BrokenImage, KeyError):
            continue
    return sizes, shapes


def _bytes(value: Any) -> int:
    match value:
        case dict():
            return sum(_bytes(v) for name, v in value.items() if name != "key")
        case list() | tuple():
            return sum(map(_bytes, value))
        case str():
            return len(value.encode())
        case bytes():
            return len(value)
        case np.ndarray():
            return value.nbytes
    return 8
