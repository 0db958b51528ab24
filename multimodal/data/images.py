"""Encoded pictures to arrays, one policy for all of them.

Result: uint8 [height, width, 3], RGB, turned as the EXIF orientation says. Grey is repeated,
palettes and CMYK are converted, 16-bit values keep their upper byte, transparency is laid over
white, of an animation the first frame counts. A picture that is cut off or corrupt is broken as a
whole: half a picture is never passed on.
"""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import simplejpeg
from PIL import Image, ImageOps, UnidentifiedImageError

from multimodal.data.stages import stage

MAX_PIXELS = 1 << 26  # 8192 x 8192; more is refused before any memory is taken
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
_PLAIN = ("Gray", "YCbCr", "RGB")  # kinds of JPEG that need no conversion of ours
_ORIENTATION, _ON_ITS_SIDE = 0x0112, (5, 6, 7, 8)  # the EXIF tag, and its values


class BrokenImage(Exception):
    """The reason why a picture cannot be decoded."""


def decode(
    data: bytes, reduce: int = 1, *, smooth: bool = True, buffer: np.ndarray | None = None
) -> np.ndarray:
    """The picture in `data` (JPEG, PNG, WebP, GIF, BMP, TIFF) as uint8 [height, width, 3].

    Where `jpeg_size` knows its size, both sides are divided by `reduce` (1, 2, 4 or 8), rounded up;
    colours kept at half the resolution are repeated, not interpolated, unless `smooth`; and the
    pixels are put into `buffer`, uint8 and large enough, instead of memory of their own.
    Raises BrokenImage for anything unreadable, corrupt, cut off or larger than MAX_PIXELS.
    """
    try:
        with stage("decode"):
            return _decode(data, reduce, {"fastupsample": not smooth, "buffer": buffer})
    except BrokenImage:
        raise
    except Exception as error:  # each codec has its own; a broken picture must not end the run
        raise BrokenImage(f"unreadable picture: {error}"[:200]) from None


def _decode(data: bytes, reduce: int, options: Mapping[str, Any]) -> np.ndarray:
    if data[:2] == b"\xff\xd8" and not _has_exif(data):
        height, width, colours, _ = _jpeg_header(data)
        _check_size(width, height)
        if colours in _PLAIN:
            return _decode_jpeg(data, height, width, reduce, options)
    return _decode_any(data, reduce)


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """(height, width) of an ordinary JPEG, turned as `decode` turns it, from its header alone; None
    for what has to be decoded to know."""
    if data[:2] != b"\xff\xd8":
        return None
    height, width, colours, _ = _jpeg_header(data)
    if colours not in _PLAIN:
        return None
    if not _has_exif(data):
        return height, width
    try:
        exif = Image.Exif()
        exif.load(Image.open(io.BytesIO(data), formats=("JPEG",)).info.get("exif", b""))
        return (width, height) if exif.get(_ORIENTATION, 1) in _ON_ITS_SIDE else (height, width)
    except Exception:  # `decode` will say what is wrong
        return None


def _jpeg_header(data: bytes) -> tuple[int, int, str, str]:
    try:
        return simplejpeg.decode_jpeg_header(data)
    except ValueError:  # also for rare but valid subsampling, which Pillow reads
        return 0, 0, "unknown", "unknown"


def _decode_jpeg(
    data: bytes, height: int, width: int, reduce: int, options: Mapping[str, Any]
) -> np.ndarray:
    if reduce == 1:
        return simplejpeg.decode_jpeg(data, "RGB", **options)
    sides = {"min_height": -(-height // reduce), "min_width": -(-width // reduce)}
    return simplejpeg.decode_jpeg(data, "RGB", min_factor=reduce, **sides, **options)


def _has_exif(data: bytes) -> bool:
    """Whether a segment before the picture itself is EXIF; quicker than searching for the word."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:  # start of the scan
        if data[at + 1] == 0xFF:  # one of any number of filling bytes
            at += 1
            continue
        if data[at + 1] == 0xE1 and data[at + 4 : at + 9] == b"Exif\0":
            return True
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
    return False


def _decode_any(data: bytes, reduce: int) -> np.ndarray:
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except UnidentifiedImageError:
        what = f"begins with {data[:12]!r}" if data else "is empty"
        why = f"no header of {', '.join(_FORMATS)}"
        raise BrokenImage(f"unreadable picture: {what}, {why}") from None
    _check_size(*image.size)
    if image.format == "JPEG" and image.mode != "CMYK":
        # Pillow passes over corrupt data in silence.
        pixels = Image.fromarray(_decode_jpeg(data, image.height, image.width, reduce, {}))
        pixels.info["exif"] = image.info.get("exif", b"")
        return np.asarray(ImageOps.exif_transpose(pixels))
    image.load()
    if b"Exif" in data[:65536] or b"eXIf" in data or b"EXIF" in data:
        image = ImageOps.exif_transpose(image)
    return from_pillow(image)


def from_pillow(image: Image.Image) -> np.ndarray:
    """An open picture, already turned, as uint8 [height, width, 3]. Raises BrokenImage."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return np.asarray(image)
    if image.mode.startswith("I;16") or image.mode == "I":
        grey = np.clip(np.asarray(image).astype(np.int64), 0, 65535) >> 8
        return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
    if image.mode == "F":
        raise BrokenImage("unreadable picture: floating-point values have no known range")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return np.asarray(image.convert("RGB"))


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise BrokenImage(f"picture of {width} x {height} pixels; at most {MAX_PIXELS} are read")
