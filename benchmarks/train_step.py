"""Seconds of a training step beside Hugging Face's CLIPModel in PyTorch, in turns, float32 on CPU:
python -m benchmarks.train_step [--shapes=tiny,b32] [--batch=N] [--rounds=N] [--threads=N]
[--unrolled] [--compiled] [--profile]

Ours is the step of a run as `multimodal.train` takes it; theirs the same shape from the same
weights on the same batch, with PyTorch's fused AdamW. The first losses of both must agree. Needs,
in an environment of its own: pip install torch==2.13.0 transformers
"""

import argparse
import importlib.util
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks import shapes
from benchmarks.turns import Child, SideError, Spread, table, take_turns, times_as_fast

BATCH = {"tiny": 32, "b32": 8}
NEEDED = "torch and transformers are needed: pip install torch==2.13.0 transformers"
HEAD = ["shape", "batch", "side", "step, ms", "CPU-ms", "GFLOP/s", "times as fast", "by CPU time"]


def agree(ours: list[float], theirs: list[float], tolerance: float = 2e-3) -> None:
    """Raises SideError unless both sides had the same losses, so that they did the same."""
    apart = float(np.abs(np.subtract(ours, theirs)).max())
    if not apart <= tolerance:
        raise SideError(f"the sides do not train the same: losses {ours} and {theirs}")


def compare(shape: str, given: argparse.Namespace) -> list[list[str]]:
    """Rows of the table for both sides. Raises SideError."""
    batch, threads = given.batch or BATCH[shape], given.threads
    common = {"shape": shape, "batch_size": batch}
    ours = Child("benchmarks.ours", common | {"stacks": {"scan": not given.unrolled}}, threads)
    with tempfile.TemporaryDirectory() as folder:
        weights = str(Path(folder) / "model.safetensors")
        ours.ask("export", path=weights)
        other = common | {"weights": weights, "compiled": given.compiled}
        theirs = Child("benchmarks.huggingface", other, threads)
    sides = {"ours": ours, "theirs": theirs}
    facts = {name: side.ask("facts") for name, side in sides.items()}
    counts = [facts[name]["parameters"] for name in sides]
    if counts[0] != counts[1]:
        raise SideError(f"the sides do not train the same: {counts} parameters")
    first = {name: side.ask("steps", count=3) for name, side in sides.items()}
    agree(first["ours"]["loss"], first["theirs"]["loss"])
    cpu: dict[str, list[float]] = {name: [] for name in sides}

    def step(name: str) -> float:
        told = sides[name].ask("steps", count=1)
        cpu[name] += told["cpu"]
        return told["seconds"][0]

    turns = take_turns(
        {"ours": lambda: step("ours"), "theirs": lambda: step("theirs")}, given.rounds
    )
    rows = []
    for name, side in sides.items():
        if given.profile:
            print(f"\n{shape}, {facts[name]['name']}\n\n{side.ask('profile', count=2)}\n")
        side.close()
        seconds, busy = Spread.of(turns[name]), Spread.of(cpu[name])
        rate = facts["ours"]["flops"] / busy.median / 1e9
        rows.append(
            [shape, str(batch), facts[name]["name"], seconds.times(1e3).show(0)]
            + [busy.times(1e3).show(0), f"{rate:.0f}", "", ""]
        )
    rows[0][-2] = times_as_fast(turns, "ours", "theirs").show(2)
    rows[0][-1] = times_as_fast(cpu, "ours", "theirs").show(2)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shapes", default=",".join(shapes.NAMES))
    parser.add_argument("--batch", type=int, help="examples a step, else by shape")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--threads", type=int, help="of each side; all cores by default")
    parser.add_argument("--unrolled", action="store_true", help="our blocks without a scan")
    parser.add_argument("--compiled", action="store_true", help="theirs through torch.compile")
    parser.add_argument("--profile", action="store_true", help="where the time goes")
    given = parser.parse_args()
    names = given.shapes.split(",")
    if unknown := set(names) - set(shapes.NAMES):
        parser.error(f"--shapes={min(unknown)}: there are {', '.join(shapes.NAMES)}")
    if not all(map(importlib.util.find_spec, ("torch", "transformers"))):
        sys.exit(NEEDED)
    rows = []
    try:
        for name in names:
            rows += compare(name, given)
    except SideError as error:
        sys.exit(f"error: {error}")
    print(table(HEAD, rows))


if __name__ == "__main__":
    main()
