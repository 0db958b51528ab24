"""Encoded pictures to arrays, one policy for all of them.

Result: uint8 [height, width, 3], RGB, turned as the EXIF orientation says. Grey is repeated,
palettes and CMYK are converted, 16-bit values keep their upper byte, transparency is laid over
white, of an animation the first frame counts. A picture that is cut off or corrupt is broken as a
whole: half a picture is never passed on.
"""

import io

import numpy as np
import simplejpeg
from PIL import Image, ImageOps

MAX_PIXELS = 1 << 26  # 8192 x 8192; more is refused before any memory is taken
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")


class BrokenImage(Exception):
    """The reason why a picture cannot be decoded."""


def decode(data: bytes) -> np.ndarray:
    """The picture in `data` (JPEG, PNG, WebP, GIF, BMP, TIFF) as uint8 [height, width, 3].

    Raises BrokenImage for anything unreadable, corrupt, cut off or larger than MAX_PIXELS.
    """
    try:
        if data[:2] == b"\xff\xd8" and b"Exif\0" not in data[:65536]:
            height, width, colours, _ = _jpeg_header(data)
            _check_size(width, height)
            if colours in ("Gray", "YCbCr", "RGB"):
                return simplejpeg.decode_jpeg(data, "RGB")
        return _decode_any(data)
    except BrokenImage:
        raise
    except Exception as error:  # each codec has its own; a broken picture must not end the run
        raise BrokenImage(f"unreadable picture: {error}"[:200]) from None


def _jpeg_header(data: bytes) -> tuple[int, int, str, str]:
    try:
        return simplejpeg.decode_jpeg_header(data)
    except ValueError:  # also for rare but valid subsampling, which Pillow reads
        return 0, 0, "unknown", "unknown"


def _decode_any(data: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(data), formats=_FORMATS)
    _check_size(*image.size)
    if image.format == "JPEG" and image.mode != "CMYK":
        # Pillow passes over corrupt data in silence.
        pixels = Image.fromarray(simplejpeg.decode_jpeg(data, "RGB"))
        pixels.info["exif"] = image.info.get("exif", b"")
        return np.asarray(ImageOps.exif_transpose(pixels))
    image.load()
    if b"Exif" in data[:65536] or b"eXIf" in data or b"EXIF" in data:
        image = ImageOps.exif_transpose(image)
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
