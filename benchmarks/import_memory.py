"""Memory that an import takes, beside the size of its file, in one process or in several:

python -m benchmarks.import_memory --model=clip-vit-l14|siglip-so400m|clip-tiny [--processes=N]
    [--folder=DIR]

Weights are random, float32, in one safetensors file. What is counted is the peak resident memory of
each process, mapped files included, beyond what it has before it begins.
"""

import argparse
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from safetensors.numpy import save_file

from multimodal.convert import import_checkpoint
from multimodal.interop import SETTINGS, export_weights
from multimodal.models.build import build
from multimodal.parallel import processes


def _sizes(width: int, depth: int, heads: int, mlp: int) -> dict[str, int]:
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    return dict(zip(names, (width, depth, heads, mlp), strict=True))


def _two(text: dict, vision: dict, image_size: int, patch_size: int) -> dict:
    vision = vision | {"image_size": image_size, "patch_size": patch_size}
    return {"text_config": text, "vision_config": vision}


_END = {"eos_token_id": 2}  # pooled at the largest id, whatever the tokenizer
MODELS = {
    "clip-tiny": {"model_type": "clip", "projection_dim": 64}
    | _two(_sizes(64, 2, 2, 128) | _END, _sizes(64, 2, 2, 128), 32, 16),
    "clip-vit-l14": {"model_type": "clip", "projection_dim": 768}
    | _two(_sizes(768, 12, 12, 3072) | _END, _sizes(1024, 24, 16, 4096), 224, 14),
    "siglip-so400m": {"model_type": "siglip"}
    | _two(_sizes(1152, 27, 16, 4304), _sizes(1152, 27, 16, 4304), 224, 14),
}


def write(folder: Path, config: dict) -> None:
    """A folder of Hugging Face's form, with random weights."""
    folder.mkdir(parents=True, exist_ok=True)
    layout = f"huggingface_{config['model_type']}"
    model = build(*SETTINGS[layout](config), "float32")
    rng = np.random.default_rng(0)
    params = {
        path: rng.normal(0, 0.02, leaf.shape).astype(np.float32)
        for path, leaf in model.shapes().items()
    }
    save_file(export_weights(layout, params), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))


def measure(folder: Path, workdir: Path) -> None:
    """One process's share of an import; prints what it took."""
    processes.join()
    devices = jax.device_count()
    before, began = _peak(), time.monotonic()
    import_checkpoint(folder, workdir, "bytes")
    size = (folder / "model.safetensors").stat().st_size
    taken = _peak() - before
    print(
        f"process {jax.process_index()} of {jax.process_count()}, {devices} devices in all: file "
        f"{size / 1e6:.0f} MB, peak {taken / 1e6:.0f} MB beyond {before / 1e6:.0f} MB: "
        f"{taken / size:.2f} of the file, {time.monotonic() - began:.0f} s",
        flush=True,
    )


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=MODELS, default="clip-tiny")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--folder", default=None)
    parser.add_argument("--share-of", default=None, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.share_of:
        folder = Path(given.share_of)
        measure(folder, folder / "run")
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        child = [sys.executable, "-m", "benchmarks.import_memory"]
        if os.fork() == 0:  # what writing takes is not this process's
            write(Path(name), MODELS[given.model])
            os._exit(0)
        if os.wait()[1]:
            sys.exit("the file could not be written")
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        several = given.processes > 1
        shared = {"JAX_COORDINATOR_ADDRESS": f"localhost:{port}"} if several else {}
        shared |= {"JAX_NUM_PROCESSES": str(given.processes), "JAX_PLATFORMS": "cpu"}
        running = [
            subprocess.Popen(
                [*child, f"--share-of={name}"], env=os.environ | shared | {"JAX_PROCESS_ID": str(i)}
            )
            for i in range(given.processes)
        ]
        statuses = [process.wait() for process in running]
        if any(statuses):
            sys.exit("a process failed")


if __name__ == "__main__":
    main()
