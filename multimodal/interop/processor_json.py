"""Our resize, mean and standard deviation as transformers' preprocessor_config.json, and as
open_clip's preprocess_cfg."""

from typing import Any

from multimodal.errors import UserError
from multimodal.preprocessing import Preprocessing

RESAMPLE = {"bicubic": 3, "bilinear": 2}  # numbers of Pillow
SQUASHING = {
    "huggingface_clip": "CLIPImageProcessor",
    "huggingface_siglip": "SiglipImageProcessor",
    "huggingface_vit": "ViTImageProcessor",
}
PROCESSORS = {
    "huggingface_clip": "CLIPProcessor",
    "huggingface_siglip": "SiglipProcessor",
    "huggingface_siglip2": "Siglip2Processor",
}


def huggingface_processor(layout: str, preprocessing: Preprocessing) -> dict[str, Any]:
    """The preprocessor_config.json of a model in `layout`. Raises UserError for a resize that their
    image processors do not have."""
    p = preprocessing
    config: dict[str, Any] = {
        "do_convert_rgb": True,
        "do_resize": True,
        "resample": _resample(p),
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(p.mean),
        "image_std": list(p.std),
    }
    if layout in PROCESSORS:
        config["processor_class"] = PROCESSORS[layout]
    if p.max_patches is not None:
        return config | {
            "image_processor_type": "Siglip2ImageProcessor",
            "patch_size": p.patch_size,
            "max_num_patches": p.max_patches,
        }
    square = {"height": p.image_size, "width": p.image_size}
    match p.resize:
        case "crop":
            return config | {
                "image_processor_type": "CLIPImageProcessor",
                "size": {"shortest_edge": p.image_size},
                "do_center_crop": True,
                "crop_size": square,
            }
        case "squash":
            return config | {
                "image_processor_type": SQUASHING[layout],
                "size": square,
                "do_center_crop": False,
            }
    raise UserError(
        f"preprocessing.resize={p.resize!r}: no image processor of transformers fills up to a "
        "square with the picture in its middle, so the model cannot be exported"
    )


def open_clip_preprocess(preprocessing: Preprocessing) -> dict[str, Any]:
    """The preprocess_cfg of open_clip_config.json. Raises UserError for a resize that is not
    expressed there."""
    p = preprocessing
    modes = {"crop": "shortest", "squash": "squash"}
    if p.resize not in modes or p.max_patches is not None:
        told = f"resize={p.resize!r}" if p.max_patches is None else f"max_patches={p.max_patches}"
        raise UserError(f"preprocessing.{told}: open_clip has no such resize")
    _resample(p)
    return {
        "mean": list(p.mean),
        "std": list(p.std),
        "interpolation": p.interpolation,
        "resize_mode": modes[p.resize],
    }


def _resample(p: Preprocessing) -> int:
    if p.interpolation not in RESAMPLE:
        raise UserError(
            f"preprocessing.interpolation={p.interpolation!r}: others resize by "
            f"{' or '.join(RESAMPLE)}, so the model cannot be exported"
        )
    return RESAMPLE[p.interpolation]
