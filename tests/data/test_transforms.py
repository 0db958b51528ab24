import numpy as np
import pytest
from PIL import Image

from multimodal.data.transforms import OPS, build, fit
from multimodal.errors import UserError
from multimodal.preprocessing import Preprocessing
from tests.data.shards import picture

IMAGE = np.asarray(picture(0, 40, 56))


def _apply(ops, image=IMAGE, seed=0, size=32):
    example = {"image": image, "text": "kept"}
    rng = np.random.default_rng(seed)
    before = image.copy()
    for op in build(ops, size):
        example = op(example, rng)
    np.testing.assert_array_equal(image, before)  # inputs may be shared; they stay as they are
    assert example["text"] == "kept"
    assert example["image"].dtype == np.uint8
    return example["image"]


@pytest.mark.parametrize("name", OPS)
def test_each_draws_from_the_given_generator_alone(name):
    np.random.seed(0)
    one = _apply([{"op": name}], seed=3)
    np.random.seed(1)
    np.testing.assert_array_equal(_apply([{"op": name}], seed=3), one)


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("shape", [(1, 5000, 3), (5000, 1, 3), (1, 1, 3), (7, 9, 3)])
def test_each_takes_any_shape(name, shape):
    options = {"chance": 1.0} if "chance" in OPS[name].__dataclass_fields__ else {}
    out = _apply([{"op": name, **options}], np.full(shape, 90, np.uint8))
    assert out.shape == ((32, 32, 3) if name.endswith("crop") else shape)


def test_random_crop_is_the_largest_square_anywhere():
    image = np.arange(4 * 7 * 3, dtype=np.uint8).reshape(4, 7, 3)
    for turned in (image, image.transpose(1, 0, 2)):
        squares = [
            turned[i:, j:][:4, :4] for i, j in np.ndindex(turned.shape[0] - 3, turned.shape[1] - 3)
        ]
        found = [_apply([{"op": "random_crop"}], turned, seed, size=4) for seed in range(60)]
        seen = {next(i for i, s in enumerate(squares) if np.array_equal(s, f)) for f in found}
        assert seen == {0, 1, 2, 3}
    assert _apply([{"op": "random_crop"}], size=16).shape == (16, 16, 3)


def test_random_resized_crop_covers_the_share_asked_for():
    rows, columns = np.mgrid[:200, :200]
    image = np.stack([rows, columns, rows], axis=-1).astype(np.uint8)
    for seed in range(50):
        out = _apply([{"op": "random_resized_crop", "scale": [0.2, 0.5]}], image, seed)
        height, width = np.ptp(out[..., 0].astype(int)), np.ptp(out[..., 1].astype(int))
        assert 0.75 * 0.85 < (width + 4) / (height + 4) < 4 / 3 * 1.15
        assert 0.15 < (height + 4) * (width + 4) / 200**2 < 0.55
    whole = [{"op": "random_resized_crop", "scale": [1, 1], "ratio": [1, 1]}]
    area = image.reshape(20, 10, 20, 10, 3).mean((1, 3))
    np.testing.assert_allclose(_apply(whole, image, size=20), area, atol=0.51)


def test_random_shift_moves_and_repeats_the_border():
    seen = set()
    image = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    for seed in range(200):
        out = _apply([{"op": "random_shift", "share": 0.25}], image, seed)
        moves = [
            (down, right)
            for down in range(-2, 3)
            for right in range(-2, 3)
            if np.array_equal(
                out,
                image[np.clip(np.arange(8) - down, 0, 7)][:, np.clip(np.arange(8) - right, 0, 7)],
            )
        ]
        assert len(moves) == 1
        seen.update(moves)
    assert len(seen) == 25


def test_random_affine_moves_zooms_and_turns():
    rows, columns = np.mgrid[:80, :80].astype(np.float32)
    image = np.stack([rows, columns, rows], axis=-1).astype(np.uint8)  # tells where a pixel was
    centre = slice(35, 45)
    moves, zooms = [], []
    for seed in range(100):
        op = {"op": "random_affine", "shift": 0.1, "zoom": [0.8, 1.25]}
        out = _apply([op], image, seed)[centre, centre].astype(float)
        zooms.append((out[-1, 0, 0] - out[0, 0, 0], out[0, -1, 1] - out[0, 0, 1]))
        moves.append(out[..., :2].mean((0, 1)) - 39.5)
        op |= {"shift": 0.0, "degrees": 90.0}
        turned = _apply([op], image, seed)[39:41, 39:41, :2].mean((0, 1))
        np.testing.assert_allclose(turned, [39.5, 39.5], atol=1)  # about the centre
    assert np.ptp(np.array(zooms), axis=1).max() <= 1  # the same along both sides
    assert 9 / 1.25 - 1 <= np.min(zooms) < 8 and 10.5 < np.max(zooms) <= 9 * 1.25 + 1
    assert 6 < np.abs(moves).max() <= 8 * 1.25 + 1
    still = {"op": "random_affine", "shift": 0.0, "zoom": [1.0, 1.0]}
    np.testing.assert_array_equal(_apply([still], image), image)
    corner = _apply([still | {"zoom": [0.5, 0.5]}], image)[0, 0]
    np.testing.assert_array_equal(corner, image[0, 0])  # the border fills what is uncovered


def test_flip_mirrors_half_of_the_time():
    flipped = 0
    for seed in range(200):
        out = _apply([{"op": "flip"}], seed=seed)
        same = np.array_equal(out, IMAGE)
        assert same or np.array_equal(out, IMAGE[:, ::-1])
        flipped += not same
    assert 70 < flipped < 130


def test_color_jitter_stays_within_its_limits():
    for seed in range(30):
        out = _apply([{"op": "color_jitter", "brightness": 0.3}], seed=seed).astype(float)
        inside = (out < 255) & (IMAGE > 20)
        ratio = out[inside] / IMAGE[inside]
        assert 0.67 < ratio.min() <= ratio.max() < 1.33
        assert np.ptp(ratio) < 0.06
    grey = np.repeat(IMAGE[..., :1], 3, axis=2)
    np.testing.assert_allclose(_apply([{"op": "color_jitter", "saturation": 0.9}], grey), grey, 1)
    flat = np.full((4, 4, 3), 77, np.uint8)
    np.testing.assert_array_equal(_apply([{"op": "color_jitter", "contrast": 0.9}], flat), flat)


def test_random_grayscale_is_luma():
    out = _apply([{"op": "random_grayscale", "chance": 1.0}])
    wanted = np.asarray(Image.fromarray(IMAGE).convert("L")).astype(int)
    assert np.abs(out[..., 0] - wanted).max() <= 1
    assert (out == out[..., :1]).all()


def test_random_erase_paints_one_rectangle():
    for seed in range(30):
        out = _apply([{"op": "random_erase", "chance": 1.0, "fill": 1}], seed=seed)
        rows, columns = np.nonzero((out != IMAGE).any(-1))
        box = out[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert 0.005 < box[..., 0].size / IMAGE[..., 0].size < 0.4
        assert (box == 1).mean() > 0.95


def test_misspelt_transforms_are_named():
    with pytest.raises(UserError, match=r"augment\[1\].op: no transform 'filp'; did you mean 'fl"):
        build([{"op": "flip"}, {"op": "filp"}], 32)
    with pytest.raises(UserError, match=r"augment\[0\].chnace: no such setting; did you mean 'ch"):
        build([{"op": "flip", "chnace": 1.0}], 32)
    with pytest.raises(UserError, match=r"augment\[0\].scale: expected 2 values"):
        build([{"op": "random_resized_crop", "scale": [1.0]}], 32)
    with pytest.raises(UserError, match="no transform None"):
        build([{"chance": 1.0}], 32)


@pytest.mark.parametrize("shape", [(300, 200), (200, 300), (224, 224), (50, 70), (333, 224)])
@pytest.mark.parametrize("name", ["bicubic", "bilinear", "area"])
def test_crop_equals_resizing_the_whole_and_cutting(shape, name):
    image = picture(1, *shape)
    how = {"bicubic": "BICUBIC", "bilinear": "BILINEAR", "area": "BOX"}[name]
    short = min(shape)
    size = (224 * shape[1] // short, 224 * shape[0] // short)
    whole = np.asarray(image.resize(size, Image.Resampling[how])).astype(int)
    top, left = (size[1] - 224) // 2, (size[0] - 224) // 2
    wanted = whole[top : top + 224, left : left + 224]
    out = fit(np.asarray(image), Preprocessing(resize="crop", interpolation=name))
    np.testing.assert_array_equal(out, wanted)


def test_very_long_pictures_keep_their_centre():
    image = np.repeat(np.arange(4000)[None, :, None] // 20, 20, axis=0).astype(np.uint8)
    out = fit(np.repeat(image, 3, axis=2), Preprocessing(image_size=40))
    assert np.abs(out[0, :, 0].astype(int) - 100).max() <= 1
    assert (out[0, :18, 0] == 99).all()
    assert (out[0, 22:, 0] == 100).all()


def test_squash_and_pad():
    image = picture(2, 60, 120)
    squash = Preprocessing(image_size=48, resize="squash")
    wanted = image.resize((48, 48), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(fit(np.asarray(image), squash), np.asarray(wanted))
    out = fit(np.asarray(image), Preprocessing(image_size=48, resize="pad", pad_value=9))
    wanted = np.asarray(image.resize((48, 24), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(out[12:36], wanted)
    assert (out[:12] == 9).all()
    assert (out[36:] == 9).all()


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
@pytest.mark.parametrize("shape", [(1, 5000, 3), (5000, 1, 3), (1, 1, 3)])
def test_thin_pictures_fit(resize, shape):
    out = fit(np.full(shape, 200, np.uint8), Preprocessing(resize=resize))
    assert out.shape == (224, 224, 3)
    assert max(out[112, 111, 0], out[111, 112, 0]) == 200


def test_a_picture_of_the_right_size_is_untouched():
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    for resize in ("squash", "crop", "pad"):
        assert fit(image, Preprocessing(image_size=32, resize=resize)) is image
