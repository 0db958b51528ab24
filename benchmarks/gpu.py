"""Images a second, MFU and peak memory of training on one GPU, beside PyTorch as open_clip uses it:
python -m benchmarks.gpu [--models=ViT-B-32,...] [--json=FILE] [--rounds=N] [--seconds=N]
[--batches=N,...] [--ways=attention:keep,...] [--no_theirs] [--device=cpu --models=tiny]

bfloat16 on both sides: ours with cuDNN's attention, theirs with autocast, torch.compile, fused
AdamW and scaled_dot_product_attention (`torch_model.py`). For each model and side the best batch is
searched, from small to large; then the sides take turns at theirs, each turn in a process of its
own with the whole card. MFU is what the model has to compute, as `multimodal.plan` counts it, over
what the card can. Theirs needs torch: pip install torch==2.13.0
"""

import argparse
import datetime
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import shapes
from benchmarks.train_step import agree
from benchmarks.turns import Child, SideError, Spread, table, take_turns

BATCHES = {
    "ViT-B-32": (1024, 2048, 4096, 8192),
    "ViT-B-16": (512, 1024, 2048, 4096),
    "ViT-L-14": (128, 256, 512, 1024),
    "SO400M-14": (128, 256, 512, 1024),
    "ViT-g-14": (64, 128, 256, 512),
}
HEAD = ["model", "side", "batch", "way", "images/s", "MFU", "peak GiB", "times as fast"]
NO_GPU = "no GPU is in sight of nvidia-smi; to try the command: --device=cpu --models=tiny"
NO_TORCH = "theirs is left out, torch is not installed: pip install torch==2.13.0"

Figures = dict[str, Any]


def measure(module: str, settings: Figures, seconds: float) -> Figures:
    """One turn of a side, in a process of its own. Raises SideError."""
    side = Child(f"benchmarks.{module}", settings)
    try:
        return side.ask("facts") | side.ask("measure", seconds=seconds) | settings
    finally:
        side.close()


def best(candidates: list[Figures], turn: Callable[[Figures], Figures]) -> Figures | None:
    """The settings of the most images a second. A way's batches grow until one does not fit or is
    slower than the one before by 2 %; None if nothing ran."""
    found: dict[str, list[tuple[float, Figures]]] = {}
    ended = set()
    for settings in candidates:
        way = json.dumps({k: v for k, v in settings.items() if k != "batch_size"})
        if way in ended:
            continue
        size = settings["batch_size"]
        try:
            rate = size / turn(settings)["seconds"]
        except SideError as error:
            print(f"  batch {size}, {way}: {error}", file=sys.stderr)
            ended.add(way)
            continue
        print(f"  batch {size}, {way}: {rate:,.1f} images/s", file=sys.stderr)
        before = max((r for r, _ in found.get(way, [])), default=0.0)
        found.setdefault(way, []).append((rate, settings))
        if rate < 0.98 * before:
            ended.add(way)
    runs = [run for runs in found.values() for run in runs]
    return max(runs, key=lambda run: run[0])[1] if runs else None


def record(side: str, model: str, turns: list[Figures], ours: Figures) -> Figures:
    """A side's line of JSON; `ours` says what an example has to take, and of which device."""
    first, peak = turns[0], ours["peak_flops"]
    flops = ours["flops"] / ours["batch_size"]
    rates = [t["batch_size"] / t["seconds"] for t in turns]
    rate = Spread.of(rates)
    memory = [t["peak_bytes"] for t in turns if t["peak_bytes"]]
    return {
        "date": datetime.date.today().isoformat(),
        "device": ours["device"],
        "model": model,
        "side": side,
        "name": first["name"],
        "batch_size": first["batch_size"],
        "way": way_of(first),
        "parameters": first["parameters"],
        "images_per_second": rate.median,
        "images_per_second_each": rates,
        "mfu": rate.median * flops / peak if peak else None,
        "model_flops_per_image": flops,
        "peak_bytes": max(memory, default=None),
    }


def way_of(settings: Figures) -> str:
    """How a side computes, in a word."""
    stacks = settings.get("stacks")
    if stacks is None:
        return "compiled" if settings["compiled"] else "eager"
    return f"{stacks['attention']}:{stacks['keep']}"


def rows(lines: list[Figures]) -> list[list[str]]:
    """Of the table, one for each line; how many times as fast we are stands in ours."""
    theirs = {x["model"]: x["images_per_second"] for x in lines if x["side"] == "theirs"}
    shown = []
    for x in lines:
        ratio = x["images_per_second"] / theirs[x["model"]] if x["model"] in theirs else None
        memory = "-" if x["peak_bytes"] is None else f"{x['peak_bytes'] / 2**30:.1f}"
        shown.append(
            [x["model"], x["name"], str(x["batch_size"]), x["way"]]
            + [f"{x['images_per_second']:,.1f}", "-" if x["mfu"] is None else f"{x['mfu']:.1%}"]
            + [memory, f"{ratio:.2f}" if ratio and x["side"] == "ours" else ""]
        )
    return shown


def compare(model: str, given: argparse.Namespace, with_theirs: bool) -> list[Figures]:
    """Both sides' records of a model. Raises SideError."""
    sizes = (
        [int(n) for n in given.batches.split(",")] if given.batches else BATCHES.get(model, (8,))
    )
    common = {"shape": model, "dtype": "bfloat16"}
    ways = [dict(zip(("attention", "keep"), w.split(":"), strict=True)) for w in given.ways]
    asked = {
        "ours": [common | {"batch_size": n, "stacks": way} for way in ways for n in sizes],
        "theirs": [
            common | {"batch_size": n, "device": given.device, "compiled": not given.eager}
            for n in sizes
        ],
    }
    modules = {"ours": "ours", "theirs": "open_clip"}
    seen: dict[str, list[Figures]] = {"ours": [], "theirs": []}

    def turn(side: str, settings: Figures, seconds: float = given.seconds) -> Figures:
        return measure(modules[side], settings, seconds)

    chosen = {}
    for side in ("ours", "theirs")[: 1 + with_theirs]:
        print(f"{model}, {side}: searching the batch", file=sys.stderr)
        chosen[side] = best(asked[side], lambda s, side=side: turn(side, s, given.seconds / 3))
        if chosen[side] is None:
            raise SideError(f"{model}: {side} ran at no batch of {', '.join(map(str, sizes))}")

    def step(side: str) -> float:
        seen[side].append(turn(side, chosen[side]))
        return seen[side][-1]["seconds"]

    take_turns({side: lambda side=side: step(side) for side in chosen}, given.rounds)
    if len({seen[side][0]["parameters"] for side in chosen}) > 1:
        raise SideError(f"{model}: the sides have not as many parameters")
    return [record(side, model, seen[side], seen["ours"][0]) for side in chosen]


def same_losses(model: str, device: str) -> None:
    """Raises SideError unless the first steps of both sides, eager and in float32, have the same
    losses."""
    settings = {"shape": model, "batch_size": 4, "dtype": "float32"}
    ours = Child("benchmarks.ours", settings | {"stacks": {}})
    with tempfile.TemporaryDirectory() as folder:
        weights = str(Path(folder) / "weights.safetensors")
        ours.ask("export", path=weights, layout="")
        theirs = settings | {"device": device, "compiled": False, "weights": weights}
        other = Child("benchmarks.open_clip", theirs)
    losses = [side.ask("steps", count=3)["loss"] for side in (ours, other)]
    agree(*losses, tolerance=0.02)  # on a GPU float32 is TF32
    for side in (ours, other):
        side.close()


def has_gpu() -> bool:
    try:
        return not subprocess.run(["nvidia-smi", "-L"], capture_output=True).returncode
    except FileNotFoundError:
        return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", default=",".join(shapes.LARGE))
    parser.add_argument("--json", help="file that the lines of JSON are added to")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="of steps in a turn")
    parser.add_argument("--batches", help="to try, else by model")
    parser.add_argument("--ways", help="of ours, else cudnn:everything,cudnn:inputs")
    parser.add_argument("--eager", action="store_true", help="theirs without torch.compile")
    parser.add_argument("--no_theirs", action="store_true")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    given = parser.parse_args()
    names = given.models.split(",")
    known = (*shapes.LARGE, "tiny", "tiny-siglip")
    if unknown := set(names) - set(known):
        parser.error(f"--models={min(unknown)}: there are {', '.join(known)}")
    if given.device == "cuda" and not has_gpu():
        sys.exit(NO_GPU)
    cpu = given.device == "cpu"
    default = "xla:everything" if cpu else "cudnn:everything,cudnn:inputs"
    given.ways = (given.ways or default).split(",")
    os.environ["JAX_PLATFORMS"] = "cpu" if cpu else "cuda"
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.95")
    with_theirs = not given.no_theirs and importlib.util.find_spec("torch") is not None
    if not with_theirs and not given.no_theirs:
        print(NO_TORCH, file=sys.stderr)
    lines = []
    # What a turn compiles, the next turns of the same side read.
    with tempfile.TemporaryDirectory() as cache:
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", cache)
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", f"{cache}/inductor")
        try:
            for model in [n for n in ("tiny", "tiny-siglip") if with_theirs]:
                same_losses(model, given.device)
            for model in names:
                for line in compare(model, given, with_theirs):
                    lines.append(line)
                    print(json.dumps(line), flush=True)
                    if given.json:
                        with Path(given.json).open("a") as file:
                            file.write(json.dumps(line) + "\n")
        except SideError as error:
            sys.exit(f"error: {error}")
        finally:
            if lines:
                print(f"\n{table(HEAD, rows(lines))}")


if __name__ == "__main__":
    main()
