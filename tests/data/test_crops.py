"""Crops against Pillow: full decoding, the box, antialiased bicubic to the same size."""

import io

import numpy as np
import pytest
from PIL import Image

from multimodal.data.crops import Box, cut, resize, snapped
from multimodal.data.images import BrokenImage, decode, jpeg_size
from multimodal.data.tar import TarSource
from multimodal.data.transforms import RandomCrop, RandomResizedCrop, build
from tests.data.shards import encoded, picture
from tests.shared import shared_path

SIZE = 224


@pytest.fixture(scope="module")
def photos():
    """The first photos of two tars, about 384 x 256."""
    found = []
    for name in ("coco-open-train", "openstax-train"):
        source = TarSource(str(shared_path(f"data/{name}.tar")), ["jpg"])
        found += [Image.open(io.BytesIO(source[i]["jpg"])).convert("RGB") for i in range(30)]
    return found


def enlarged(photos, width, height):
    wide = [p for p in photos if p.width > p.height]
    return [p.resize((width, height), Image.Resampling.BICUBIC) for p in wide]


def tiled(photos, width, height):
    """Photos side by side at their own sharpness, which no enlarged one has."""
    made = []
    for first in range(0, len(photos) - 20, 12):
        made.append(Image.new("RGB", (width, height)))
        places = [(x, y) for y in range(0, height, 192) for x in range(0, width, 250)]
        for photo, place in zip(photos[first:] + photos[:first], places, strict=False):
            made[-1].paste(photo.crop((0, 0, 250, 192)), place)
    return made


def by_pillow(data, box, size=SIZE):
    top, left, height, width = box
    whole = Image.open(io.BytesIO(data)).convert("RGB")
    part = whole.crop((left, top, left + width, top + height))
    return np.asarray(part.resize((size, size), Image.Resampling.BICUBIC)).astype(int)


def differences(pictures, scale, quality):
    """Mean absolute difference of each random crop to Pillow's, and the boxes."""
    op, found, boxes = RandomResizedCrop(scale=scale, size=SIZE), [], []
    for seed, image in enumerate(pictures):
        data = encoded(image, "JPEG", quality=quality)
        box, _ = snapped(op.box(image.height, image.width, np.random.default_rng(seed)), SIZE)
        out = op({"image": data}, np.random.default_rng(seed))["image"]
        found.append(np.abs(out.astype(int) - by_pillow(data, box)).mean())
        boxes.append(box)
    return np.array(found), boxes


@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.9, 1.0)])
def test_crops_of_photos_are_within_two_of_255_of_pillow(photos, scale):
    found, boxes = differences(enlarged(photos, 500, 375), scale, quality=90)
    assert len(found) > 20
    assert found.max() <= 2
    assert found.mean() <= 1
    grown = sum(max(box.height, box.width) < SIZE for box in boxes)
    assert grown > 3 if scale[0] < 0.5 else grown == 0
    assert differences(tiled(photos, 500, 375), scale, quality=95)[0].mean() <= 1.5


def test_so_are_those_decoded_at_a_fraction(photos):
    for width, height, least, count in ((1024, 768, 2, 8), (2000, 1500, 4, 2)):
        found, boxes = differences(
            enlarged(photos[: 2 * count], width, height), (0.7, 1.0), quality=90
        )
        assert {snapped(box, SIZE)[1] for box in boxes} == {least}
        assert found.max() <= 2
    # Far sharper than photos of that size are.
    assert differences(tiled(photos, 1024, 768), (0.7, 1.0), quality=90)[0].mean() <= 2


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_the_box_is_the_one_that_was_drawn(form):
    """Read from the picture itself: red tells the column, green the row."""
    height, width = 640, 1000
    rows, columns = np.mgrid[:height, :width]
    dither = np.random.default_rng(0).random((height, width))
    ramps = [columns * 254 / width + dither, rows * 254 / height + dither, 128 + dither]
    options = {"quality": 100, "subsampling": 0} if form == "JPEG" else {}
    data = encoded(Image.fromarray(np.stack(ramps, -1).astype(np.uint8)), form, **options)
    numbers = set()
    for op, size in [(RandomResizedCrop(scale=(0.05, 1), size=s), s) for s in (40, 100, 224)] + [
        (RandomCrop(size=100), 100)
    ]:
        for seed in range(6):
            drawn = op.box(height, width, np.random.default_rng(seed))
            box, n = snapped(drawn, size)
            assert all(0 <= a - b < n and b % n == 0 for a, b in zip(drawn, box, strict=True))
            out = op({"image": data}, np.random.default_rng(seed))["image"].astype(float)
            inner = np.arange(4, size - 4)
            for ramp, side, first, length in (
                (out[..., 0].mean(0), width, box.left, box.width),
                (out[..., 1].mean(1), height, box.top, box.height),
            ):
                slope, start = np.polyfit(inner + 0.5, ramp[inner], 1) * side / 254
                start += 0.5  # column 0 has its middle there
                near = 0.3 + 0.15 * length / size  # values are rounded; a seventh of a pixel
                assert start == pytest.approx(first, abs=near)
                assert slope * size == pytest.approx(length, abs=near)
            numbers.add(n)
    assert numbers == {1, 2, 4, 8}


def test_a_fraction_leaves_a_quarter_more_than_the_size():
    assert snapped(Box(7, 9, 559, 900), 224) == ((7, 9, 559, 900), 1)
    assert snapped(Box(7, 9, 560, 901), 224) == ((6, 8, 560, 900), 2)
    assert snapped(Box(7, 9, 1121, 1123), 224) == ((4, 8, 1120, 1120), 4)
    assert snapped(Box(1, 15, 9000, 2241), 224) == ((0, 8, 9000, 2240), 8)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_pictures_are_cut_where_they_are_seen(orientation):
    exif = Image.Exif()
    exif[274] = orientation
    image = picture(3, 200, 301)
    data = encoded(image, "JPEG", quality=95, subsampling=0, exif=exif)
    seen = decode(data)
    assert jpeg_size(data) == seen.shape[:2]
    out = cut(data, lambda height, width: Box(20, 40, 120, 136), 32)
    assert (
        np.abs(
            out.astype(int) - by_pillow(encoded(Image.fromarray(seen)), (20, 40, 120, 136), 32)
        ).mean()
        < 2
    )


def test_every_form_is_cut_alike():
    image = picture(5, 333, 250).convert("L").convert("RGB")
    forms = [encoded(image), encoded(image.convert("L"), "JPEG", quality=95)]
    forms += [
        encoded(image.convert("CMYK"), "JPEG", quality=95),
        encoded(image, "JPEG", quality=95),
    ]
    crop = RandomResizedCrop(size=48)
    wanted = crop({"image": np.asarray(image)}, np.random.default_rng(1))["image"].astype(int)
    for data in forms:
        out = crop({"image": data}, np.random.default_rng(1))["image"]
        assert np.abs(out - wanted).mean() < 2


def test_what_is_cut_off_is_broken_at_any_fraction():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8))
    data = encoded(noise, "JPEG")
    crop = RandomCrop(size=64)
    assert crop({"image": data}, np.random.default_rng(0))["image"].shape == (64, 64, 3)
    for torn in (data[: len(data) // 2], data[:20], data[:5000] + bytes(300) + data[5300:], b""):
        with pytest.raises(BrokenImage):
            crop({"image": torn}, np.random.default_rng(0))


@pytest.mark.parametrize("shape", [(100, 100), (80, 301), (333, 90), (700, 64), (64, 64), (20, 31)])
def test_resize_is_near_bicubic_for_any_shape(shape):
    image = picture(4, *shape)
    wanted = np.asarray(image.resize((64, 64), Image.Resampling.BICUBIC)).astype(int)
    out = resize(np.asarray(image), 64)
    assert out.dtype == np.uint8 and out.flags.c_contiguous
    assert np.abs(out - wanted).mean() < 2


def test_stripes_are_averaged_not_sampled():
    stripes = np.zeros((300, 300, 3), np.uint8)
    stripes[:, ::2] = 255
    for side in (70, 100, 130, 149):
        out = resize(stripes, side).astype(int)
        assert np.abs(out - 127).max() < 90
        assert abs(out.mean() - 127.5) < 3


def test_other_transforms_may_follow_a_crop():
    ops = build([{"op": "random_resized_crop"}, {"op": "flip", "chance": 1.0}], 32)
    example = {"image": encoded(picture(1), "JPEG")}
    out = ops[0](example, np.random.default_rng(0))
    turned = ops[1](out, np.random.default_rng(0))
    np.testing.assert_array_equal(turned["image"], out["image"][:, ::-1])


@pytest.mark.parametrize("shape", [(64, 64), (100, 90), (40, 30)])
def test_a_crop_keeps_its_pixels_while_others_are_made(shape):
    """Memory is used again from picture to picture, but never what was handed out."""
    first, second = (encoded(picture(i, *shape), "JPEG") for i in (1, 2))
    for size in (64, 32):
        out = cut(first, lambda height, width: Box(0, 0, height, width), size)
        before = out.copy()
        cut(second, lambda height, width: Box(0, 0, height, width), size)
        np.testing.assert_array_equal(out, before)
        assert out.flags.owndata or not np.may_share_memory(
            out, cut(second, lambda *s: Box(0, 0, *s), size)
        )
