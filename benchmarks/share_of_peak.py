"""Which share of these CPU cores a run has used: its planned work over the seconds that its steps
took, beside one large product of matrices.

python benchmarks/share_of_peak.py WORKDIR
"""

import json
import statistics
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp


def achieved(lines: list[str]) -> tuple[float, float]:
    """(FLOPs, median seconds) of a step, by the lines of a run's metrics.jsonl. The first step,
    with its compilation, is left out."""
    rows = [json.loads(line) for line in lines]
    flops = next(row["planned/model_flops"] for row in rows if "planned/model_flops" in row)
    seconds = [row["train/step_seconds"] for row in rows if "train/step_seconds" in row]
    return flops, statistics.median(seconds[1:] or seconds)


def product(size: int = 2048, repeats: int = 9) -> float:
    """FLOP/s of a float32 product of two square matrices, the best of `repeats`."""
    x = jax.random.normal(jax.random.key(0), (size, size))
    multiply = jax.jit(jnp.matmul)
    multiply(x, x).block_until_ready()
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        multiply(x, x).block_until_ready()
        taken.append(time.perf_counter() - start)
    return 2 * size**3 / min(taken)


def main() -> None:
    if len(sys.argv) != 2 or not (file := Path(sys.argv[1]) / "metrics.jsonl").is_file():
        sys.exit("error: name the folder of a run, with its metrics.jsonl")
    flops, seconds = achieved(file.read_text().splitlines())
    peak = product()
    print(
        f"{flops / 1e9:.2f} GFLOP in {seconds:.3f} s: {flops / seconds / 1e9:.0f} GFLOP/s; "
        f"one large product: {peak / 1e9:.0f} GFLOP/s; share {flops / seconds / peak:.0%}"
    )


if __name__ == "__main__":
    main()
