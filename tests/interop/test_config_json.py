"""Our settings as others' config.json, and what their classes cannot express."""

import pytest

from multimodal import config
from multimodal.errors import UserError
from multimodal.interop import SETTINGS
from multimodal.interop.config_json import config_json, differences
from tests.interop.models import LAYOUTS, small, their_config
from tests.toy import replace


@pytest.mark.parametrize("act", ["gelu", "quick_gelu", "gelu_pytorch_tanh"])
@pytest.mark.parametrize("kind", LAYOUTS)
def test_what_matters_comes_out_as_it_went_in(kind, act):
    model, *_ = small(kind, act=act)
    table = config_json(f"huggingface_{kind}", model)
    wanted = their_config(kind, act)
    flat = [(table, wanted)]
    for name in ("text_config", "vision_config"):
        if name in wanted:
            flat.append((table[name], wanted[name]))
    for ours, theirs in flat:
        for name, value in theirs.items():
            if isinstance(value, dict) or name in ("num_labels", "projection_dim"):
                continue
            if name == "eos_token_id" and kind != "clip":
                continue  # nothing is pooled there
            if (name, kind) in {("image_size", "siglip2"), ("num_patches", "clip")} or (
                name == "num_patches" and kind != "siglip2"
            ):
                continue
            assert ours[name] == value, name
    again, _ = SETTINGS[f"huggingface_{kind}"](table)
    assert not differences(model, again)


def test_clips_projection_and_end_are_where_transformers_looks_for_them():
    model, *_ = small("clip")
    table = config_json("huggingface_clip", model, {"bos_token_id": 546, "pad_token_id": 547})
    parts = (table, table["text_config"], table["vision_config"])
    assert [part["projection_dim"] for part in parts] == [12, 12, 12]
    text = table["text_config"]
    assert (text["bos_token_id"], text["eos_token_id"], text["pad_token_id"]) == (546, 547, 547)
    largest = replace(model, towers__text__pooler="argmax")
    assert config_json("huggingface_clip", largest)["text_config"]["eos_token_id"] == 2


def test_classes_of_a_classifier_are_named():
    model, *_ = small("vit")
    table = config_json("huggingface_vit", model, classes=("a", "b", "c", "d", "e"))
    assert table["id2label"]["4"] == "e" and table["label2id"]["e"] == 4
    assert config_json("huggingface_vit", model)["id2label"]["0"] == "LABEL_0"


@pytest.mark.parametrize(
    ("kind", "change", "told"),
    [
        ("clip", {"towers__image__patch_bias": True}, r"image\.patch_bias=True"),
        ("clip", {"towers__image__pre_norm": False}, r"image\.pre_norm=False"),
        ("clip", {"towers__image__class_token": False}, r"image\.class_token=False"),
        ("clip", {"towers__text__transformer__causal": False}, r"text\.transformer\.causal=False"),
        ("clip", {"towers__text__pooler": "mean"}, r"text\.pooler='mean'"),
        ("clip", {"towers__text__projection": "none"}, r"text\.projection='none'"),
        ("clip", {"logit_bias_init": -10.0}, "logit_bias_init=-10"),
        ("clip", {"towers__text__end_id": 2}, r"text\.end_id=2"),
        ("siglip", {"towers__image__projection": "linear"}, r"image\.projection='linear'"),
        ("siglip", {"towers__text__mask_padding": True}, r"text\.mask_padding=True"),
        ("siglip", {"logit_bias_init": None}, "logit_bias_init=None"),
        ("siglip2", {"towers__image__class_token": True}, r"image\.class_token=True"),
        ("vit", {"towers__image__pooler": "mean"}, r"image\.pooler='mean'"),
        ("bert", {"text__transformer__norm_position": "pre"}, r"norm_position='pre'"),
        ("bert", {"text__mask_padding": False}, r"text\.mask_padding=False"),
    ],
)
def test_what_their_class_cannot_express_is_named(kind, change, told):
    model, *_ = small(kind)
    with pytest.raises(UserError, match=f"config.model.*{told}.* of transformers"):
        config_json(f"huggingface_{kind}", replace(model, **change))


def test_what_is_for_training_alone_makes_no_difference():
    model, *_ = small("clip")
    trained = replace(
        model,
        towers__image__patch_dropout=0.5,
        towers__image__transformer__keep="inputs",
        towers__text__transformer__dropout=0.1,
        towers__text__mask_padding=True,  # after the end, which is where a causal stack is read
        logit_scale_init=1.0,
    )
    assert not differences(model, trained)
    assert not differences(model, replace(model, towers__text__pooler="argmax"))
    elsewhere = replace(model, towers__text__end_id=5)
    assert differences(elsewhere, replace(elsewhere, towers__text__pooler="argmax"))
    assert isinstance(trained, config.DualEncoder)
