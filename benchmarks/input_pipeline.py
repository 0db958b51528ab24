"""The input side by side with the usual ways, alternating, per CPU-second:
python benchmarks/input_pipeline.py --data=TAR[::TAR ...] [--only=crops,reads,pipeline] [--rounds=N]
[--workers=0,2]

crops     a JPEG to a random crop of 224 pixels: ours against Pillow (decode, crop, bicubic), with
          the mean absolute difference of the two
reads     the same pictures at random from tar, ArrayRecord and Parquet
pipeline  whole batches from a tar: ours against a torch DataLoader that reads tars from front to
          back and decodes with Pillow, as open_clip does; needs torch, which nothing else here does

The pictures are those of the tars, several of them side by side so that each keeps its sharpness.
"""

import argparse
import importlib.util
import io
import itertools
import json
import math
import random
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from multimodal.config import Data, Tar
from multimodal.data import array_record, parquet, throughput
from multimodal.data.crops import Box, cut, snapped
from multimodal.data.tar import TarSource
from multimodal.data.tokenizers import load_tokenizer, tokenize
from multimodal.data.transforms import RandomResizedCrop
from multimodal.errors import UserError
from multimodal.preprocessing import Preprocessing

SIZE, BATCH, QUALITY = 224, 64, 90
OPEN_CLIP, IMAGENET = (0.9, 1.0), (0.08, 1.0)  # shares of the area that are cropped
CLIP = Preprocessing(length=77)
MEAN, STD = (0.4815, 0.4578, 0.4082), (0.2686, 0.2613, 0.2758)


def photos(path: str, count: int, width: int, height: int) -> list[bytes]:
    """JPEGs of this size, each of several pictures side by side."""
    source = TarSource(path.split("::"), ["jpg"])
    raw = (source[i]["jpg"] for i in itertools.cycle(range(len(source))))
    made = []
    for _ in range(count):
        whole = Image.new("RGB", (width, height))
        for x, y in itertools.product(range(0, width, 256), range(0, height, 256)):
            whole.paste(Image.open(io.BytesIO(next(raw))).convert("RGB"), (x, y))
        file = io.BytesIO()
        whole.save(file, "JPEG", quality=QUALITY)
        made.append(file.getvalue())
    return made


def by_us(data: bytes, box: Box) -> np.ndarray:
    return cut(data, lambda height, width: box, SIZE)


def by_pillow(data: bytes, box: Box) -> np.ndarray:
    top, left, height, width = box
    whole = Image.open(io.BytesIO(data)).convert("RGB")
    part = whole.crop((left, top, left + width, top + height))
    return np.asarray(part.resize((SIZE, SIZE), Image.Resampling.BICUBIC))


def crops(path: str, rounds: int) -> None:
    print(f"{'crops':<26}{'ours':>8}{'Pillow':>8}   a CPU-second{'ratio':>8}{'difference':>12}")
    for (width, height), scale in itertools.product(
        [(500, 375), (1024, 768)], [OPEN_CLIP, IMAGENET]
    ):
        op, pictures = RandomResizedCrop(scale=scale, size=SIZE), photos(path, 60, width, height)
        sides = {"ours": by_us, "Pillow": by_pillow}
        spent, apart = dict.fromkeys(sides, 0.0), []
        for turn, (i, data) in itertools.product(range(rounds), enumerate(pictures)):
            box, _ = snapped(op.box(height, width, np.random.default_rng(i)), SIZE)
            found = {}
            for name in sorted(sides, reverse=(turn + i) % 2 == 0):
                begin = time.thread_time()
                found[name] = sides[name](data, box)
                spent[name] += time.thread_time() - begin
            if not turn:
                apart.append(np.abs(found["ours"].astype(int) - found["Pillow"]).mean())
        ours, pillow = (rounds * len(pictures) / spent[name] for name in ("ours", "Pillow"))
        print(
            f"{width} x {height}, area {scale[0]:.2f}-{scale[1]:.0f}".ljust(26)
            + f"{ours:>8,.0f}{pillow:>8,.0f}{ours / pillow:>23.2f}{np.mean(apart):>8.2f} of 255"
        )


def write_tar(path: Path, pictures: list[bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for i, data in enumerate(pictures):
            for name, content in ((f"{i:06}.jpg", data), (f"{i:06}.txt", b"a photo of a place")):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


def reads(path: str, folder: Path, rounds: int) -> None:
    """Where Parquet keeps fewer row groups than it has, as with any real set."""
    pictures = photos(path, 1000, 500, 375)
    write_tar(folder / "a.tar", pictures)
    array_record.write(str(folder / "a.array_record"), [{"jpg": data} for data in pictures])
    pq.write_table(pa.table({"jpg": pictures}), folder / "a.parquet", row_group_size=100)
    parquet._KEPT = sum(map(len, pictures)) // 4
    tar = TarSource(str(folder / "a.tar"), ["jpg"])
    records = array_record.ArrayRecordSource(str(folder / "a.array_record"))
    rows = parquet.ParquetSource(str(folder / "a.parquet"))
    anywhere = np.random.default_rng(0).permutation(len(pictures))
    rng = np.random.default_rng(1)
    near = np.concatenate([rng.permutation(200) + first for first in range(0, 1000, 200)])
    ways = {
        "tar": (tar, anywhere),
        "ArrayRecord": (records, anywhere),
        "Parquet, groups of 100": (rows, anywhere),
        "Parquet, group=100 window=2": (rows, near),
    }
    spent = {name: [0, 0.0, 0.0] for name in ways}
    for turn, (name, (source, order)) in itertools.product(range(rounds), ways.items()):
        chunk = order[turn % 5 * 200 :][:200]
        clock, cpu = time.perf_counter(), time.process_time()
        for i in chunk:
            assert len(source[int(i)]["jpg"]) == len(pictures[i])
        spent[name][0] += len(chunk)
        spent[name][1] += time.perf_counter() - clock
        spent[name][2] += time.process_time() - cpu
    size = f"random reads of {np.mean([len(p) for p in pictures]) / 1e3:.0f} kB"
    print(f"{size:<30}{'a second':>10}{'a CPU-second':>14}")
    for name, (count, clock, cpu) in spent.items():
        print(f"{name:<30}{count / clock:>10,.0f}{count / cpu:>14,.0f}")


def ours(tar: str, workers: int, seconds: float) -> float:
    """Examples a CPU-second, steps as in training: uint8 pictures, ids of the texts."""
    augment = ({"op": "random_resized_crop", "scale": OPEN_CLIP},)
    data = Data(Tar(tar), {"image": "jpg", "text": "txt"}, augment)
    options = {"batch_size": BATCH, "seed": 0, "seconds": seconds}
    return throughput.rate(data, CLIP, workers, **options).per_cpu_second


def theirs(tar: str, workers: int, seconds: float) -> float:
    """The same batches of float32 pictures, normalised on the host as open_clip does."""
    import torch

    torch.set_num_threads(1)
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (MEAN, STD))
    tokenizer = load_tokenizer(CLIP.tokenizer, CLIP.pad_id)

    class Examples(torch.utils.data.IterableDataset):
        def __iter__(self) -> Iterator[tuple[Any, Any]]:
            info = torch.utils.data.get_worker_info()
            rng, kept = random.Random(info.id if info else 0), []
            for one in itertools.chain.from_iterable(map(in_order, itertools.repeat(tar))):
                kept.append(one)
                if len(kept) == 500:  # shuffled in memory, as webdataset does
                    yield example(kept.pop(rng.randrange(500)), rng)

    def example(one: dict[str, bytes], rng: random.Random) -> tuple[Any, Any]:
        image = random_resized_crop(Image.open(io.BytesIO(one["jpg"])).convert("RGB"), rng)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
        pixels = pixels.to(torch.float32).div(255)
        ids = tokenize([one["txt"].decode()], CLIP, tokenizer)[0]
        return pixels.sub_(mean).div_(std), torch.from_numpy(ids)

    loader = iter(torch.utils.data.DataLoader(Examples(), BATCH, num_workers=workers))
    for _ in range(2 * workers + 3):
        next(loader)
    count, begin, cpu = 0, time.perf_counter(), throughput._cpu_seconds()
    while time.perf_counter() - begin < seconds:
        count += len(next(loader)[1])
    return count / (throughput._cpu_seconds() - cpu)


def in_order(tar: str) -> Iterator[dict[str, bytes]]:
    """Records of a tar from front to back."""
    record: dict[str, bytes] = {}
    with tarfile.open(tar, "r|") as members:
        for member in members:
            record[member.name.partition(".")[2]] = members.extractfile(member).read()
            if len(record) == 2:
                yield record
                record = {}


def random_resized_crop(image: Image.Image, rng: random.Random) -> Image.Image:
    """torchvision's, of open_clip's share."""
    width, height = image.size
    for _ in range(10):
        area = width * height * rng.uniform(*OPEN_CLIP)
        aspect = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if w <= width and h <= height:
            break
    else:
        w, h = min(width, round(height * 4 / 3)), min(height, round(width * 4 / 3))
    left, top = rng.randint(0, width - w), rng.randint(0, height - h)
    part = image.crop((left, top, left + w, top + h))
    return part.resize((SIZE, SIZE), Image.Resampling.BICUBIC)


def pipeline(path: str, folder: Path, rounds: int, workers: list[int]) -> None:
    if importlib.util.find_spec("torch") is None:
        print("pipeline: left out, torch is not installed: pip install torch==2.13.0")
        return
    tar = folder / "pipeline.tar"
    write_tar(tar, photos(path, 1000, 500, 375))
    print(f"{'pipeline, 500 x 375':<26}{'ours':>8}{'torch':>8}   a CPU-second{'ratio':>8}")
    for number in workers:
        found: dict[str, list[float]] = {"ours": [], "theirs": []}
        for turn in range(rounds):
            for side in sorted(found, reverse=turn % 2 == 1):
                # In a process of its own: what the other reads ahead must not count.
                asked = json.dumps([side, str(tar), number, 4.0])
                told = subprocess.check_output([sys.executable, __file__, "--side", asked])
                found[side].append(float(told.split()[-1]))
        one, two = (float(np.median(found[side])) for side in ("ours", "theirs"))
        print(f"workers={number}".ljust(26) + f"{one:>8,.0f}{two:>8,.0f}{one / two:>23.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", help="tars with pictures as .jpg, joined by ::")
    parser.add_argument("--only", default="crops,reads,pipeline")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", default="0,2", help="of the pipeline")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        side, *asked = json.loads(given.side)
        print({"ours": ours, "theirs": theirs}[side](*asked))
        return
    if not given.data:
        parser.error("--data is missing")
    workers = [int(number) for number in given.workers.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        parts: dict[str, Callable[[], None]] = {
            "crops": lambda: crops(given.data, given.rounds),
            "reads": lambda: reads(given.data, Path(folder), given.rounds),
            "pipeline": lambda: pipeline(given.data, Path(folder), given.rounds, workers),
        }
        for name in given.only.split(","):
            if name not in parts:
                parser.error(f"--only={name}: there are {', '.join(parts)}")
            try:
                parts[name]()
            except UserError as error:
                parser.error(str(error))


if __name__ == "__main__":
    main()
