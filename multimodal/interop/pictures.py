"""What other people's files say of how pictures become arrays, compared with the model's settings.

Where two of their files disagree the import stops and names what about: one of them is wrong, and
a model that is fed otherwise than it was trained loses accuracy without a word.
"""

import dataclasses
import math
from typing import Any

from multimodal.errors import UserError
from multimodal.preprocessing import Preprocessing

_RESAMPLE = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers
_RESIZE = {"shortest": "crop", "squash": "squash", "longest": "pad"}


def huggingface_pictures(
    told: dict[str, Any], preprocessing: Preprocessing, image_size: int, where: str
) -> Preprocessing:
    """`preprocessing` as preprocessor_config.json says, of a model of pictures of `image_size`.

    Raises UserError, naming the setting, for one that is not supported or does not fit the model.
    """
    for name in ("do_resize", "do_rescale"):
        if told.get(name) is False:
            raise UserError(f"{where}: {name}=false is not supported")
    factor = told.get("rescale_factor", 1 / 255)
    if not math.isclose(factor, 1 / 255, rel_tol=1e-6):
        raise UserError(f"{where}: rescale_factor={factor} is not supported, only 1/255")
    changes: dict[str, Any] = {}
    if told.get("do_normalize", True):
        changes |= _statistics(told, "image_mean", "image_std", where)
    else:
        changes |= {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    if "resample" in told:
        if told["resample"] not in _RESAMPLE:
            raise UserError(f"{where}: resample={told['resample']} is not supported, only 2 and 3")
        changes["interpolation"] = _RESAMPLE[told["resample"]]
    if preprocessing.max_patches is not None:
        _agree("patch_size", told.get("patch_size"), preprocessing.patch_size, where)
        changes["max_patches"] = told.get("max_num_patches", preprocessing.max_patches)
    elif "size" in told:
        changes["resize"] = _resize(told, image_size, where)
    return dataclasses.replace(preprocessing, **changes)


def open_clip_pictures(
    told: dict[str, Any], preprocessing: Preprocessing, image_size: int, where: str
) -> Preprocessing:
    """`preprocessing` as `preprocess_cfg` of open_clip_config.json says. Raises UserError."""
    known = {"size", "mode", "mean", "std", "interpolation", "resize_mode", "fill_color"}
    if unknown := told.keys() - known:
        raise UserError(f"{where}: {min(unknown)} is not supported")
    if told.get("mode", "RGB") != "RGB":
        raise UserError(f"{where}: mode={told['mode']!r} is not supported, only RGB")
    changes = _statistics(told, "mean", "std", where)
    if "size" in told:
        size = told["size"]
        _agree("size", size[-1] if isinstance(size, list) else size, image_size, where)
    interpolation = told.get("interpolation", "bicubic")
    if interpolation not in _RESAMPLE.values():
        raise UserError(f"{where}: interpolation={interpolation!r} is not supported")
    mode = told.get("resize_mode", "shortest")
    if mode not in _RESIZE:
        raise UserError(f"{where}: resize_mode={mode!r} is not supported")
    fill = told.get("fill_color", 0)
    if not isinstance(fill, int):
        raise UserError(f"{where}: fill_color={fill!r} is not supported, only one grey for all")
    changes |= {"interpolation": interpolation, "resize": _RESIZE[mode]}
    return dataclasses.replace(preprocessing, **changes, pad_value=fill)


def _statistics(told: dict[str, Any], mean: str, std: str, where: str) -> dict[str, Any]:
    changes = {}
    for ours, theirs in (("mean", mean), ("std", std)):
        if theirs not in told:
            continue
        value = told[theirs]
        if not (isinstance(value, list) and len(value) == 3 and all(0 <= v <= 1 for v in value)):
            raise UserError(f"{where}: {theirs}={value} is not three numbers from 0 to 1")
        if ours == "std" and 0 in value:
            raise UserError(f"{where}: {theirs}={value}: pictures cannot be divided by 0")
        changes[ours] = tuple(map(float, value))
    return changes


def _resize(told: dict[str, Any], image_size: int, where: str) -> str:
    """`crop` or `squash`, whose result has to be as large as the model wants it."""
    size, crop = told["size"], told.get("crop_size")
    crops = told.get("do_center_crop", False)
    if isinstance(size, int):  # of the short side where the centre is cut out, else of both
        size = {"shortest_edge": size} if crops else {"height": size, "width": size}
    if not crops:
        if size.keys() != {"height", "width"}:
            raise UserError(f"{where}: size={size} without do_center_crop is not supported")
        for side in ("height", "width"):
            _agree(f"size.{side}", size[side], image_size, where)
        return "squash"
    if size.keys() not in ({"shortest_edge"}, {"height", "width"}):
        raise UserError(f"{where}: size={size} with do_center_crop is not supported")
    crop = {"height": crop, "width": crop} if isinstance(crop, int) else crop or {}
    for side in ("height", "width"):
        _agree(f"crop_size.{side}", crop.get(side), image_size, where)
    for side, length in size.items():
        if length != image_size:
            raise UserError(
                f"{where}: size.{side}={length} is larger than crop_size={image_size}; cutting off "
                "a border is not supported"
            )
    return "crop" if "shortest_edge" in size else "squash"


def _agree(name: str, told: Any, wanted: int, where: str) -> None:
    if told is not None and told != wanted:
        raise UserError(
            f"{where}: {name}={told}, but the model's config makes it {wanted}; one of the two "
            "files is wrong, mend it"
        )
