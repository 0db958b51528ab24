"""Other people's config.json as our settings."""

import math

import pytest

from multimodal import zoo
from multimodal.config import DualEncoder, from_dict
from multimodal.errors import UserError
from multimodal.interop import SETTINGS
from multimodal.models.build import build
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


def parameters(layout, config):
    shapes = build(*SETTINGS[layout](config), "float32").shapes()
    return sum(math.prod(leaf.shape) for leaf in shapes.values())


def test_a_bare_huggingface_bert_is_base():
    assert parameters("huggingface_bert", {}) == 110_106_428


@pytest.mark.parametrize(
    ("width", "layers", "patch", "embed", "text_heads", "millions"),
    [(768, 12, 32, 512, 8, 253.56), (1024, 24, 14, 768, 12, 638.45)],
    ids=["coca_ViT-B-32", "coca_ViT-L-14"],
)
def test_coca_of_open_clip(width, layers, patch, embed, text_heads, millions):
    # docs/model_profile.csv there, 3b37473
    vision = {"image_size": 224, "layers": layers, "width": width, "patch_size": patch}
    text = {"layers": 12, "heads": text_heads, "width": embed}
    config = {
        "embed_dim": embed,
        "vision_cfg": vision,
        "text_cfg": text | {"context_length": 76, "vocab_size": 49408},
        "multimodal_cfg": text,
    }
    assert round(parameters("open_clip_coca", config) / 1e6, 2) == millions


def test_another_mask_of_open_clip_is_refused():
    text = {"layers": 1, "heads": 1, "width": 8, "context_length": 4, "vocab_size": 9}
    config = {
        "embed_dim": 8,
        "vision_cfg": {"image_size": 8, "layers": 1, "width": 64, "patch_size": 4},
        "text_cfg": text | {"correct_cls_mask": True},
        "multimodal_cfg": text,
    }
    with pytest.raises(UserError, match="correct_cls_mask"):
        SETTINGS["open_clip_coca"](config)


def test_a_bare_huggingface_siglip2_is_b_16_naflex():
    model, preprocessing = SETTINGS["huggingface_siglip2"]({"text_config": {}, "vision_config": {}})
    image, text = model.towers["image"], model.towers["text"]
    assert (image.image_size, image.patch_size, image.max_patches) == (256, 16, 256)
    assert (preprocessing.patch_size, preprocessing.max_patches) == (16, 256)
    assert preprocessing.interpolation == "bilinear" and text.vocab_size == 256000
    assert image.transformer == text.transformer


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


@pytest.mark.parametrize(
    ("layout", "text", "wanted"),
    [
        # Padding, end, canonical texts: what their tokenizers do, not what their configs say.
        ("huggingface_clip", {"pad_token_id": 1, "eos_token_id": 49407}, (49407, 49407, False)),
        ("huggingface_clip", {"pad_token_id": 1, "eos_token_id": 2}, (49407, 49407, False)),
        ("huggingface_siglip", {"eos_token_id": 49407}, (1, 1, True)),
        ("huggingface_siglip", {"vocab_size": 256000, "pad_token_id": 1}, (0, 1, False)),
        ("huggingface_siglip2", {}, (0, 1, False)),
    ],
)
def test_how_texts_are_padded_and_cleaned(layout, text, wanted):
    model, preprocessing = SETTINGS[layout]({"text_config": text, "vision_config": {}})
    tower = model.towers["text"]
    assert (tower.pad_id, tower.end_id, preprocessing.canonicalize) == wanted
    assert preprocessing.pad_id in (None, tower.pad_id)
