"""Small tars and pictures for the tests of this folder."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image


def picture(seed: int, height: int = 40, width: int = 56) -> Image.Image:
    """A smooth coloured picture, so that JPEG keeps it recognisable."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, form: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def write_tar(path: Path, members: list[tuple[str, bytes]], form: int = tarfile.GNU_FORMAT) -> Path:
    with tarfile.open(path, "w", format=form) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def members(numbers: range) -> list[tuple[str, bytes]]:
    """A picture, caption, class and JSON for each number; numbers // 3 is the leakage group."""
    made = []
    for i in numbers:
        facts = {"group": f"g{i // 3}", "captions": [f"c{i}a", f"c{i}b", f"c{i}c"], "even": i % 2}
        made += [
            (f"{i:04d}.png", encoded(picture(i))),
            (f"{i:04d}.txt", f"caption {i}\n".encode()),
            (f"{i:04d}.cls", str(i % 10).encode()),
            (f"{i:04d}.json", json.dumps(facts).encode()),
        ]
    return made
