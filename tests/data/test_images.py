import io

import cv2
import numpy as np
import pytest
from PIL import Image

from multimodal.data import images
from multimodal.data.images import BrokenImage, decode
from tests.data.shards import encoded, picture


def _close(a, b, tolerance):
    assert a.dtype == np.uint8
    assert a.shape == b.shape
    assert np.abs(a.astype(int) - np.asarray(b).astype(int)).mean() <= tolerance


def test_lossless_forms_are_exact():
    image = picture(0)
    for form, options in (("PNG", {}), ("WEBP", {"lossless": True}), ("BMP", {}), ("TIFF", {})):
        np.testing.assert_array_equal(decode(encoded(image, form, **options)), np.asarray(image))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_jpeg(options):
    image = picture(1)
    _close(decode(encoded(image, "JPEG", quality=95, **options)), np.asarray(image), 2)


def test_grey_is_repeated():
    grey = picture(2).convert("L")
    wanted = np.repeat(np.asarray(grey)[..., None], 3, axis=2)
    np.testing.assert_array_equal(decode(encoded(grey)), wanted)
    _close(decode(encoded(grey, "JPEG", quality=95)), wanted, 2)
    np.testing.assert_array_equal(decode(encoded(grey.convert("1"))) % 255, 0)


def test_palette_and_its_transparency():
    image = picture(3).quantize(16)
    np.testing.assert_array_equal(decode(encoded(image)), np.asarray(image.convert("RGB")))
    _close(decode(encoded(image, "GIF")), np.asarray(image.convert("RGB")), 1)
    pixels = np.asarray(image)
    clear = decode(encoded(image, transparency=int(pixels[0, 0])))
    assert (clear[pixels == pixels[0, 0]] == 255).all()
    other = pixels != pixels[0, 0]
    np.testing.assert_array_equal(clear[other], np.asarray(image.convert("RGB"))[other])


def test_cmyk_as_printers_mean_it():
    """Adobe stores CMYK inverted; getting that wrong turns white into black."""
    white = Image.new("RGB", (32, 32), "white").convert("CMYK")
    assert decode(encoded(white, "JPEG")).min() >= 250
    image = picture(4)
    _close(decode(encoded(image.convert("CMYK"), "JPEG", quality=95)), np.asarray(image), 3)


def test_transparency_lies_over_white():
    rgba = np.zeros((8, 8, 4), np.uint8)
    rgba[..., 0] = 200
    rgba[:, 4:, 3] = 255
    rgba[:, 2:4, 3] = 51  # a fifth
    out = decode(encoded(Image.fromarray(rgba)))
    np.testing.assert_array_equal(out[0, 0], [255, 255, 255])
    np.testing.assert_array_equal(out[0, 7], [200, 0, 0])
    np.testing.assert_allclose(out[0, 2], 0.2 * np.array([200, 0, 0]) + 0.8 * 255, atol=1)
    two = Image.fromarray(np.array([[[100, 0], [100, 255]]], np.uint8), "LA")
    np.testing.assert_array_equal(decode(encoded(two))[0], [[255] * 3, [100] * 3])
    keyed = encoded(picture(5), transparency=tuple(int(v) for v in np.asarray(picture(5))[0, 0]))
    np.testing.assert_array_equal(decode(keyed)[0, 0], [255, 255, 255])


def test_16_bit_keeps_the_upper_byte():
    values = np.linspace(0, 65535, 64, dtype=np.uint16).reshape(8, 8)
    wanted = np.repeat((values >> 8).astype(np.uint8)[..., None], 3, axis=2)
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(values))), wanted)
    colour = np.stack([values, values[::-1], values.T], axis=-1)
    data = cv2.imencode(".png", colour[..., ::-1])[1].tobytes()
    np.testing.assert_array_equal(decode(data), (colour >> 8).astype(np.uint8))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    image = picture(6, 24, 40)
    exif = Image.Exif()
    exif[274] = orientation
    turned = np.asarray(image)
    turned = {
        1: turned,
        2: turned[:, ::-1],
        3: turned[::-1, ::-1],
        4: turned[::-1],
        5: turned.transpose(1, 0, 2),
        6: np.rot90(turned, -1),
        7: np.rot90(turned.transpose(1, 0, 2), 2),
        8: np.rot90(turned),
    }[orientation]
    np.testing.assert_array_equal(decode(encoded(image, "PNG", exif=exif)), turned)
    _close(decode(encoded(image, "JPEG", quality=95, subsampling=0, exif=exif)), turned, 2)


def test_first_frame_of_an_animation():
    first, second = picture(7).quantize(8), picture(8).quantize(8)
    data = encoded(first, "GIF", save_all=True, append_images=[second])
    _close(decode(data), np.asarray(first.convert("RGB")), 1)


def test_thin_pictures():
    for size in ((1, 5000), (5000, 1), (1, 1)):
        assert decode(encoded(Image.new("RGB", size))).shape == (size[1], size[0], 3)
        assert decode(encoded(Image.new("RGB", size), "JPEG")).shape == (size[1], size[0], 3)


def _broken_pictures():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    exif = Image.Exif()
    exif[274] = 6
    for name, data in {
        "jpeg": encoded(noise, "JPEG"),
        "progressive": encoded(noise, "JPEG", progressive=True),
        "jpeg with exif": encoded(noise, "JPEG", exif=exif),
        "cmyk": encoded(noise.convert("CMYK"), "JPEG"),
        "png": encoded(noise),
        "webp": encoded(noise, "WEBP"),
    }.items():
        yield f"{name}, half", data[: len(data) // 2]
        yield f"{name}, header", data[:20]
    jpeg = encoded(noise, "JPEG")
    yield "jpeg, closed early", jpeg[: len(jpeg) // 2] + b"\xff\xd9"
    yield "jpeg, overwritten", jpeg[:1500] + bytes(200) + jpeg[1700:]
    png = bytearray(encoded(noise))
    png[len(png) // 2] ^= 255
    yield "png, one bit wrong", bytes(png)
    yield "a form that nobody keeps data sets in", encoded(noise, "PPM")
    yield "nothing", b""
    yield "text", b"404 not found"
    yield "vector", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n"


@pytest.mark.parametrize(("name", "data"), list(_broken_pictures()))
def test_broken_as_a_whole(name, data):
    with pytest.raises(BrokenImage):
        decode(data)


def test_huge_pictures_are_refused_before_they_are_decoded(monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 1000)
    for form in ("PNG", "JPEG", "WEBP"):
        with pytest.raises(BrokenImage, match="40 x 30 pixels"):
            decode(encoded(Image.new("RGB", (40, 30)), form))
        assert decode(encoded(Image.new("RGB", (40, 25)), form)).shape == (25, 40, 3)


def test_oracle_is_pillow_on_a_photo_sized_jpeg():
    data = encoded(picture(9, 300, 500), "JPEG")
    _close(decode(data), np.asarray(Image.open(io.BytesIO(data))), 1)
