"""How memory, traffic and compilation grow with devices and batch, for TPUs that are not there:

    python benchmarks/scaling.py [--devices=8,64,512,4096] [--local=32] [--batch=1024,...,131072]
        [--programs=sigmoid,softmax,step] [--json=FILE] [--svg=FILE]

compiles the ring losses (float32, width 768, with gradients) and the whole step of a small SigLIP
with its parameters in parts: with `--local` examples a device on v5p slices of `--devices`, then
with each `--batch` on v5e:8x8. Nothing is run.
"""

import argparse
import dataclasses
import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from multimodal import zoo
from multimodal.checks import check
from multimodal.config import Config, from_dict
from multimodal.objectives.contrastive import sigmoid_loss, softmax_loss
from multimodal.parallel.collectives import collectives
from multimodal.parallel.hlo import parse
from multimodal.parallel.mesh import make_mesh
from multimodal.parallel.rules import BATCH
from multimodal.parallel.topology import devices_of
from multimodal.planning.plan import build
from multimodal.report.markup import Markup, tag

SLICES = {
    8: "v5p:2x2x2",
    16: "v5p:2x2x4",
    32: "v5p:2x4x4",
    64: "v5p:4x4x4",
    128: "v5p:4x4x8",
    256: "v5p:4x8x8",
    512: "v5p:8x8x8",
    1024: "v5p:8x8x16",
    2048: "v5p:8x16x16",
    4096: "v5p:16x16x16",
}
EMBED = 768
STACK = {"width": 256, "depth": 2, "heads": 2, "mlp": 1024, "keep": "inputs"}


@dataclasses.dataclass(frozen=True)
class Point:
    """A program for `devices`. Bytes of a device: `temporaries`, `memory` (these, arguments and
    results), `code`, and `wire`, what it sends in a step. `instructions` of the whole program's
    text; `cpu_seconds` is what compiling took of all cores."""

    program: str
    topology: str
    devices: int
    batch: int
    temporaries: int
    memory: int
    code: int
    wire: int
    instructions: int
    seconds: float
    cpu_seconds: float


def ring(loss: Callable, batch: int, mesh: Mesh) -> tuple[Callable, tuple]:
    """A contrastive loss with its gradients, and what it is lowered with."""

    def array(*shape: int, dtype: jnp.dtype = jnp.float32) -> jax.ShapeDtypeStruct:
        spec = PartitionSpec(BATCH) if shape else PartitionSpec()
        return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, spec))

    learned = [array()] * (1 + (loss is sigmoid_loss))  # scale, and bias
    args = (array(batch, EMBED), array(batch, EMBED), *learned)

    def value(valid: jax.Array, *args: jax.Array) -> jax.Array:
        return loss(*args, valid=valid, form="ring")

    function = jax.value_and_grad(value, tuple(range(1, 1 + len(args))))
    shardings = (learned[0].sharding, tuple(x.sharding for x in args))
    return jax.jit(function, out_shardings=shardings), (array(batch, dtype=jnp.bool_), *args)


def step(batch: int, devices: list[jax.Device]) -> tuple[Callable, tuple, Mesh]:
    """The step of a small SigLIP, its parameters in parts; what it is lowered with; its mesh."""
    model = zoo.small(
        "sigmoid", image=STACK, text=STACK, image_size=32, patch_size=8, length=32,
        vocab_size=1024, embed=256,
    )  # fmt: skip
    data = {
        "source": {"kind": "scenes", "split": "train", "image_size": 32},
        "fields": {"image": "image", "text": "captions"},
    }
    objective = {"kind": "contrastive", "loss": "sigmoid"}
    settings = {
        "name": "scaling",
        "tasks": {"pairs": {"data": data, "objectives": {"contrastive": objective}}},
        "mesh": {"fsdp": min(len(devices), 64)},
        "batch_size": batch,
        "dtype": "bfloat16",
        "gather": "step",
        "reduce": "bfloat16",
    }
    config = from_dict(Config, model | settings)
    check(config)
    run = build(config, devices)
    return run.tasks["pairs"].step, (run.abstract_state, run.abstract_batch()), run.mesh


def measure(program: str, topology: str, batch: int) -> Point:
    """Compiles "sigmoid", "softmax" or "step" for a topology."""
    found = devices_of(topology)
    if program == "step":
        function, args, mesh = step(batch, found)
    else:
        mesh = make_mesh({"data": -1}, found)
        loss = {"sigmoid": sigmoid_loss, "softmax": softmax_loss}[program]
        function, args = ring(loss, batch, mesh)
    with jax.set_mesh(mesh):
        lowered = function.lower(*args)
        start, cpu = time.monotonic(), time.process_time()
        compiled = lowered.compile()
        seconds, cpu = time.monotonic() - start, time.process_time() - cpu
    text, memory = compiled.as_text(), compiled.memory_analysis()
    kept = memory.output_size_in_bytes - memory.alias_size_in_bytes
    temporaries = memory.temp_size_in_bytes
    return Point(
        program,
        topology,
        len(found),
        batch,
        temporaries,
        memory.argument_size_in_bytes + kept + temporaries,
        memory.generated_code_size_in_bytes,
        sum(c.wire_bytes for c in collectives(text, mesh)),
        sum(map(len, parse(text).computations.values())),
        seconds,
        cpu,
    )


def table(points: list[Point]) -> str:
    """Markdown."""
    rows = [
        "| program | topology | devices | batch | a device | temporaries, KiB | memory, MiB "
        "| wire, MiB | code, MiB | instructions | compiled, CPU-s |",
        "|---" * 11 + "|",
    ]
    for p in points:
        rows.append(
            f"| {p.program} | {p.topology} | {p.devices:,} | {p.batch:,} "
            f"| {p.batch // p.devices:,} | {p.temporaries / 2**10:,.0f} | {p.memory / 2**20:,.1f} "
            f"| {p.wire / 2**20:,.1f} | {p.code / 2**20:.1f} | {p.instructions:,} "
            f"| {p.cpu_seconds:.1f} |"
        )
    return "\n".join(rows)


def plot(weak: list[Point], strong: list[Point]) -> Markup:
    """An SVG of four panels: memory and traffic of a device over devices and over the batch."""
    local = weak[0].batch // weak[0].devices
    panels = [
        panel(weak, "devices", "memory", f"memory a device, {local} examples on each"),
        panel(weak, "devices", "wire", f"sent by a device in a step, {local} examples on each"),
        panel(strong, "batch", "memory", f"memory a device, {strong[0].devices} devices"),
        panel(strong, "batch", "wire", f"sent by a device in a step, {strong[0].devices} devices"),
    ]
    placed = [
        tag("g", inside, transform=f"translate({n % 2 * WIDTH} {n // 2 * HEIGHT + 24})")
        for n, inside in enumerate(panels)
    ]
    legend = [
        tag("text", name, x=LEFT + 150 * n, y=18, fill=colour, font_weight="bold")
        for n, (name, colour) in enumerate(zip(LEGEND, COLOURS.values(), strict=True))
    ]
    width, height = 2 * WIDTH, 2 * HEIGHT + 24
    paper = tag("rect", width=width, height=height, fill="white")
    return tag(
        "svg", paper, *legend, *placed, xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width} {height}", width=width, height=height,
        font_family="sans-serif", font_size=12, fill="#333",
    )  # fmt: skip


COLOURS = {"sigmoid": "#1f6fb4", "softmax": "#d1611d", "step": "#2f8f4e"}
LEGEND = ("sigmoid loss", "softmax loss", "whole step, small SigLIP")
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 400, 230, 74, 30, 30, 40


def panel(points: list[Point], across: str, figure: str, title: str) -> Markup:
    """One line a program; both axes are logarithmic."""
    xs = sorted({getattr(p, across) for p in points})
    values = [max(getattr(p, figure), 1) for p in points]
    low, high = math.floor(math.log10(min(values) / 2**20)), math.log10(max(values) / 2**20)
    high = max(math.ceil(high), low + 1)

    def x(value: float) -> float:
        share = math.log(value / xs[0]) / math.log(xs[-1] / xs[0]) if len(xs) > 1 else 0.5
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(mib: float) -> float:
        share = (math.log10(mib) - low) / (high - low)
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)

    parts = [tag("text", title, x=LEFT, y=TOP - 12, font_weight="bold")]
    for power in range(low, high + 1):
        at = y(10.0**power)
        parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=at, y2=at, stroke="#ddd"))
        told = f"{10.0**power:,g} MiB"
        parts.append(tag("text", told, x=LEFT - 6, y=at, dy="0.32em", text_anchor="end"))
    for value in xs:
        parts.append(tag("text", f"{value:,}", x=x(value), y=HEIGHT - 22, text_anchor="middle"))
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(tag("text", across, x=middle, y=HEIGHT - 6, text_anchor="middle"))
    for name in dict.fromkeys(p.program for p in points):
        mine = [p for p in points if p.program == name]
        at = [(x(getattr(p, across)), y(max(getattr(p, figure), 1) / 2**20)) for p in mine]
        drawn, colour = "L".join(f"{a} {b}" for a, b in at), COLOURS[name]
        parts.append(tag("path", d=f"M{drawn}", fill="none", stroke=colour, stroke_width=2))
        parts += [tag("circle", cx=a, cy=b, r=3, fill=colour) for a, b in at]
    return tag("g", *parts)


def numbers(text: str) -> list[int]:
    return [int(n) for n in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--devices", type=numbers, default=[8, 64, 512, 4096])
    parser.add_argument("--local", type=int, default=32)
    parser.add_argument("--batch", type=numbers, default=[1024, 8192, 32768, 131072])
    parser.add_argument("--programs", default="sigmoid,softmax,step")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--svg", type=Path)
    given = parser.parse_args()
    for count in given.devices:
        if count not in SLICES:
            parser.error(f"--devices={count}: there are {', '.join(map(str, SLICES))}")
    programs = given.programs.split(",")
    if unknown := set(programs) - set(COLOURS):
        parser.error(f"--programs={unknown.pop()}: there are {', '.join(COLOURS)}")
    jax.config.update("jax_enable_compilation_cache", False)  # compiling is what is measured
    weak = [measure(p, SLICES[n], n * given.local) for p in programs for n in given.devices]
    strong = [measure(p, "v5e:8x8", size) for p in programs for size in given.batch]
    print(table(weak), table(strong), sep="\n\n")
    if given.json:
        found = [dataclasses.asdict(point) for point in weak + strong]
        given.json.write_text(json.dumps(found, indent=1) + "\n")
    if given.svg:
        given.svg.write_text(plot(weak, strong) + "\n")


if __name__ == "__main__":
    main()
