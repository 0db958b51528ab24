"""Pictures of any aspect ratio as rows of patches, as many as fit."""

import dataclasses
import itertools
from fractions import Fraction

import numpy as np
import pytest

from multimodal.config import Data, Tar
from multimodal.data.images import decode
from multimodal.data.patches import cut, fitting_size, stack
from multimodal.data.pipeline import batches, evaluation_batches
from multimodal.data.transforms import fit
from multimodal.preprocessing import Preprocessing
from tests.data.shards import encoded, picture, write_tar

FLEXIBLE = Preprocessing(image_size=16, max_patches=12, patch_size=4, length=8)
RNG = np.random.default_rng(0)
SIZES = [(30, 20), (9, 50), (64, 64), (3, 5), (200, 11)]


def largest_grid(height, width, patch, most):
    """The grid grown cell by cell: the next scale at which a side needs one more comes next."""
    rows = columns = 1
    while True:
        scales = Fraction(rows * patch, height), Fraction(columns * patch, width)
        grown = rows + (scales[0] <= scales[1]), columns + (scales[1] <= scales[0])
        if grown[0] * grown[1] > most or min(scales) > 99:
            return rows, columns
        rows, columns = grown


@pytest.mark.parametrize("most", [1, 5, 12, 256, 1000])
def test_the_largest_grid_that_fits(most):
    sides = RNG.integers(1, 3000, (60, 2)).tolist() + [[1, 4000], [224, 224], [480, 640]]
    for height, width in sides:
        size = fitting_size(height, width, 16, most)
        assert size == tuple(16 * n for n in largest_grid(height, width, 16, most)), (height, width)


def test_known_grids():
    # A square fills its square of patches; 3 : 4 has 14 x 18 = 252 of 256.
    assert fitting_size(500, 500, 16, 256) == (256, 256)
    assert fitting_size(480, 640, 16, 256) == (224, 288)


def test_patches_row_by_row():
    image = RNG.integers(0, 256, (8, 12, 3), np.uint8)
    rows = cut(image, 4)
    assert rows.shape == (6, 48)
    for n in range(6):
        y, x = 4 * (n // 3), 4 * (n % 3)
        np.testing.assert_array_equal(rows[n].reshape(4, 4, 3), image[y : y + 4, x : x + 4])


def test_a_batch_is_padded_with_zeros():
    pictures = [fit(RNG.integers(1, 256, (*size, 3), np.uint8), FLEXIBLE) for size in SIZES]
    batch = stack([*pictures, None], FLEXIBLE)
    assert batch["patches"].shape == (6, 12, 48) and batch["patches"].dtype == np.uint8
    assert batch["grid"].dtype == np.int32 and not batch["grid"][-1].any()
    for patches, (rows, columns), fitted in zip(
        batch["patches"], batch["grid"], [*pictures, np.zeros((0, 0, 3), np.uint8)], strict=True
    ):
        assert fitted.shape[:2] == (4 * rows, 4 * columns) and rows * columns <= 12
        np.testing.assert_array_equal(patches[: rows * columns], cut(fitted, 4))
        assert not patches[rows * columns :].any()


def test_a_picture_that_fits_is_not_touched():
    image = RNG.integers(0, 256, (12, 16, 3), np.uint8)
    assert fit(image, FLEXIBLE) is image


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    records = [
        {"png": encoded(picture(i, *size)), "txt": b"a picture"} for i, size in enumerate(SIZES)
    ]
    folder = tmp_path_factory.mktemp("tars")
    members = [(f"{i}.{kind}", value) for i, r in enumerate(records) for kind, value in r.items()]
    write_tar(folder / "0.tar", members)
    write_tar(folder / "1.tar", [("5.png", b"broken"), ("5.txt", b"no picture")])
    fields = {"image": "png", "text": "txt"}
    return Data(source=Tar(f"{folder}/{{0..1}}.tar"), fields=fields), records


def test_evaluation_reads_every_picture_in_its_own_shape(data):
    settings, records = data
    with evaluation_batches(settings, FLEXIBLE, batch_size=8) as iterator:
        (batch,) = list(iterator)
    np.testing.assert_array_equal(batch["valid"], [True] * 5 + [False] * 3)
    wanted = stack([fit(decode(r["png"]), FLEXIBLE) for r in records] + [None] * 3, FLEXIBLE)
    for name in wanted:
        np.testing.assert_array_equal(batch["image"][name], wanted[name])


def test_training_batches_repeat(data):
    augment = ({"op": "flip"}, {"op": "color_jitter", "brightness": 0.4})
    settings = dataclasses.replace(data[0], augment=augment)

    def take(**options):
        with batches(settings, FLEXIBLE, batch_size=4, seed=3, **options) as iterator:
            return list(itertools.islice(iterator, 2))

    whole = [b["image"] for b in take()]
    assert whole[0]["patches"].any()
    parts = [take(process_index=i, process_count=2) for i in range(2)]
    for number in range(2):
        later = take(start_batch=number)[0]["image"]
        for name in whole[number]:
            np.testing.assert_array_equal(later[name], whole[number][name])
            joined = [part[number]["image"][name] for part in parts]
            np.testing.assert_array_equal(np.concatenate(joined), whole[number][name])
