"""Other people's config.json as our settings."""

import pytest

from multimodal import zoo
from multimodal.config import DualEncoder, from_dict
from multimodal.errors import UserError
from multimodal.interop import SETTINGS
from multimodal.preprocessing import Preprocessing


def test_a_bare_huggingface_clip_is_vit_b_32():
    # What its configuration class leaves out when written is ViT-B/32's.
    model, preprocessing = SETTINGS["huggingface_clip"]({"text_config": {}, "vision_config": {}})
    ours = from_dict(DualEncoder, zoo.clip("ViT-B-32")["model"])
    assert model.towers["image"] == ours.towers["image"]
    assert model.towers["text"].transformer == ours.towers["text"].transformer
    wanted = from_dict(Preprocessing, zoo.clip("ViT-B-32")["preprocessing"])
    assert (preprocessing.mean, preprocessing.std) == (wanted.mean, wanted.std)


def test_openai_clip_by_its_constructor_is_vit_b_32():
    model, _ = SETTINGS["openai_clip"](
        {
            "embed_dim": 512,
            "image_resolution": 224,
            "vision_layers": 12,
            "vision_width": 768,
            "vision_patch_size": 32,
            "context_length": 77,
            "vocab_size": 49408,
            "transformer_width": 512,
            "transformer_heads": 8,
            "transformer_layers": 12,
        }
    )
    ours = from_dict(DualEncoder, zoo.clip("ViT-B-32")["model"])
    assert model.towers["image"] == ours.towers["image"]
    assert model.towers["text"].pooler == "argmax"  # the end token has the largest id


def test_a_bare_huggingface_siglip_is_b_16():
    model, _ = SETTINGS["huggingface_siglip"]({"text_config": {}, "vision_config": {}})
    ours = from_dict(DualEncoder, zoo.siglip("B-16")["model"])
    assert model.towers["image"] == ours.towers["image"]
    assert model.embed == ours.embed
    assert model.logit_bias_init == ours.logit_bias_init


@pytest.mark.parametrize(("end", "pooler"), [(2, "argmax"), (49407, "end")])
def test_end_token_of_huggingface_clip(end, pooler):
    config = {"text_config": {"eos_token_id": end}, "vision_config": {}}
    assert SETTINGS["huggingface_clip"](config)[0].towers["text"].pooler == pooler


def test_pixels_beyond_whole_patches_are_left_out():
    vision = {"image_size": 384, "patch_size": 14}
    config = {"text_config": {}, "vision_config": vision}
    model, preprocessing = SETTINGS["huggingface_siglip"](config)
    assert model.towers["image"].image_size == preprocessing.image_size == 378


def test_classes_of_a_vit_are_counted():
    config = {"id2label": {"0": "cat", "1": "dog", "2": "owl"}}
    assert SETTINGS["huggingface_vit"](config)[0].embed == 3


def test_an_unknown_activation_is_named():
    config = {"text_config": {"hidden_act": "swish2"}, "vision_config": {}}
    with pytest.raises(UserError, match="hidden_act 'swish2'"):
        SETTINGS["huggingface_clip"](config)
