"""Our resize as transformers and open_clip name it, and what they do not have."""

import pytest

from multimodal.errors import UserError
from multimodal.interop.pictures import huggingface_pictures, open_clip_pictures
from multimodal.interop.processor_json import huggingface_processor, open_clip_preprocess
from multimodal.preprocessing import Preprocessing

OURS = [
    Preprocessing(image_size=32),
    Preprocessing(image_size=32, resize="squash", interpolation="bilinear"),
    Preprocessing(image_size=48, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6)),
]


@pytest.mark.parametrize("kind", ["clip", "siglip", "vit"])
@pytest.mark.parametrize("ours", OURS)
def test_an_import_reads_what_an_export_wrote(kind, ours):
    told = huggingface_processor(f"huggingface_{kind}", ours)
    start = Preprocessing(image_size=ours.image_size)
    assert huggingface_pictures(told, start, ours.image_size, "here") == ours
    told = open_clip_preprocess(ours)
    assert open_clip_pictures(told, start, ours.image_size, "here") == ours.__class__(
        **vars(ours) | {"pad_value": 0}
    )


def test_pictures_of_any_aspect_ratio():
    ours = Preprocessing(max_patches=64, patch_size=8, interpolation="bilinear")
    told = huggingface_processor("huggingface_siglip2", ours)
    assert (told["image_processor_type"], told["max_num_patches"]) == ("Siglip2ImageProcessor", 64)
    start = Preprocessing(max_patches=16, patch_size=8)
    assert huggingface_pictures(told, start, 224, "here") == ours


def test_what_they_do_not_have_is_named():
    for wanted, ours in {
        "resize='pad'": Preprocessing(resize="pad"),
        "interpolation='area'": Preprocessing(interpolation="area"),
    }.items():
        with pytest.raises(UserError, match=f"preprocessing.{wanted}"):
            huggingface_processor("huggingface_clip", ours)
        with pytest.raises(UserError, match=f"preprocessing.{wanted}"):
            open_clip_preprocess(ours)
    with pytest.raises(UserError, match="preprocessing.max_patches=64"):
        open_clip_preprocess(Preprocessing(max_patches=64))
