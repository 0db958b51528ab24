"""A small file of pictures and a small model, for tests in one process and in several."""

import io

import jax
import numpy as np
from PIL import Image

from multimodal import config
from multimodal.data import array_record
from multimodal.evaluation.run import Result, evaluate
from multimodal.models.build import Model, Params, build
from multimodal.parallel.mesh import make_mesh
from multimodal.preprocessing import Preprocessing

PREPROCESSING = Preprocessing(image_size=16, length=16)
BROKEN = 4  # this record's picture cannot be read


def make_records() -> list[dict]:
    """21 records with one to three captions each, one of them broken."""
    rng = np.random.default_rng(0)
    return [
        {
            "key": f"{i}",
            "image": b"no picture" if i == BROKEN else _png(rng, (16 + i % 3, 20)),
            "captions": [f"{rng.integers(1 << 40):x} {j}" for j in range(1 + i % 3)],
            "count": 1 + i % 2,
            "label": i % 3,
            "colour": ("red", "green", "blue")[i % 3],
            "spoken": {
                "en": [f"{i} en"],
                "de": [f"{i} de", f"auch {i}"],
                "fr": f"{i} fr" if i % 2 else None,
            },
        }
        for i in range(21)
    ]


def write(folder: str) -> None:
    """Files `forward`, `backward` and `broken`, of the broken record alone."""
    records = make_records()
    array_record.write(f"{folder}/forward", records)
    array_record.write(f"{folder}/backward", records[::-1])
    array_record.write(f"{folder}/broken", [records[BROKEN]])


def data(file: str = "forward", **fields: str) -> config.Data:
    fields = {"image": "image", "text": "captions"} | fields
    return config.Data(source=config.ArrayRecords(path=file), fields=fields)


def make_model() -> Model:
    stack = config.Transformer(width=32, depth=1, heads=2, mlp=32, dropout=0.1)
    image = config.ImageTower(image_size=16, patch_size=8, transformer=stack)
    text = config.TextTower(vocab_size=260, length=16, transformer=stack, projection="linear")
    towers = {"image": image, "text": text}
    return build(config.DualEncoder(towers=towers, embed=32), PREPROCESSING, "float32")


def make_params(model: Model) -> Params:
    """Larger than initial ones, so that embeddings lie well apart."""
    key = jax.random.key(1)
    return {path: 3 * p for path, p in jax.device_get(jax.jit(model.init)(key)).items()}


def run(
    evaluator: config.Evaluator, model: Model, params: Params, folder: str, **mesh: int
) -> Result:
    """The evaluation on as many devices as `mesh` takes, all by default."""
    shape = mesh or {"data": jax.device_count()}
    return evaluate(
        evaluator,
        model=model,
        params=params,
        preprocessing=PREPROCESSING,
        mesh=make_mesh(shape, jax.devices()[: int(np.prod(list(shape.values())))]),
        data_dir=folder,
    )


def _png(rng: np.random.Generator, size: tuple[int, int]) -> bytes:
    pixels = np.full((*size, 3), rng.integers(0, 256, 3), np.uint8)
    pixels[: size[0] // 2] = rng.integers(0, 256, 3)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
