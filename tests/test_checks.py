"""Settings that do not go together, beyond those that `test_command` gives to the trainer."""

import dataclasses

import pytest

from multimodal import config
from multimodal.checks import check
from multimodal.checks.task import check_task
from multimodal.errors import UserError
from tests.toy import replace, toy_config

IMAGE, TEXT = "model__towers__image__transformer__", "model__towers__text__transformer__"
CUDNN = {"dtype": "bfloat16", IMAGE + "attention": "cudnn"}
MATCHING = "tasks__pairs__objectives__matching__"
OPEN_CLIP = {"model__form": "open_clip"}
VIEWS = "tasks__captions__objectives__"
LORA = config.Lora(("towers/.*/kernel",))
CONTRASTIVE = "tasks__pairs__objectives__contrastive__"

# Family, settings, what the line has to say.
REFUSED = [
    ("dual_encoder", {"optimizer__layer_decay": 1.5}, "layer_decay=1.5: above 0, up to 1"),
    ("dual_encoder", {"lora": LORA, "gather": "step"}, "only 'compiler' makes the products of con"),
    ("dual_encoder", {"lora": dataclasses.replace(LORA, rank=0)}, "config.lora.rank=0"),
    ("dual_encoder", {"optimizer__rules": (config.Rule("x", 0.5, 2),)}, "unlocked=2 is for what"),
    ("dual_encoder", {"optimizer__rules": (config.Rule("x", None, -1),)}, "unlocked=-1: a number"),
    ("dual_encoder", {TEXT + "cross_attention": True}, "only the decoder of coca and of siglip2"),
    ("coca", {"model__text__transformer__cross_attention": True}, "text.transformer.cross_att"),
    ("coca", {"model__decoder__cross_attention": False}, "how the decoder sees the image"),
    ("coca", {"model__text__transformer__causal": False}, "text.transformer.causal=False"),
    ("coca", {"model__decoder__causal": False}, "decoder.causal=False"),
    ("coca", {"model__decoder__width": 128}, "width=64 differs from config.model.decoder.width"),
    ("coca", {"model__image__pooler": "map"}, "config.model.image.pooler='map'"),
    ("coca", OPEN_CLIP | {"model__queries": 1}, "the first is for contrast"),
    (
        "coca",
        OPEN_CLIP | {"model__pooler_heads": 5},
        "pooler_heads=5 does not divide config.model.d",
    ),
    ("coca", OPEN_CLIP | {"model__decoder__norm_position": "post"}, "norm_position='post'"),
    ("siglip2", {"model__decoder__cross_attention": False}, "how the decoder sees the image"),
    ("siglip2", {"model__heads": None}, "needs a model of kind siglip2 with config.model.heads"),
    ("siglip2", {"ema": None}, "set config.ema, such as 0.999"),
    ("siglip2", {VIEWS + "distillation__local_size": 20}, "local_size=20 is not a multiple of"),
    ("siglip2", {VIEWS + "masked__patch_size": 16}, "masked.patch_size=16 differs from"),
    ("siglip2", {VIEWS + "distillation__begin": 1.5}, "distillation.begin=1.5"),
    ("siglip2", {"model__decoder__causal": True}, "siglip2 says itself who sees whom"),
    ("prefix_lm", {"model__image__projection": "linear"}, "config.model.image.projection"),
    ("prefix_lm", {"model__decoder__causal": True}, "prefix_lm says itself who sees whom"),
    ("uniter", {"model__transformer__causal": True}, "uniter says itself who sees whom"),
    ("uniter", {MATCHING + "rate": 1.5}, "matching.rate=1.5"),
    ("dual_encoder", {CONTRASTIVE + "positives": "label"}, "reads 'label'; given: image, text"),
    ("dual_encoder", {CONTRASTIVE + "label_smoothing": 1.0}, "label_smoothing=1.0: at least 0 and"),
    (
        "dual_encoder",
        {"model__logit_bias_init": -10.0}
        | {CONTRASTIVE + "loss": "sigmoid", CONTRASTIVE + "label_smoothing": 0.1},
        "label_smoothing=0.1 is for loss='softmax'",
    ),
    ("siglip2", {"tasks__captions__data__texts": 2}, "data.texts=2: several texts a picture are"),
    ("coca", {"tasks__captions__data__texts": 2}, "data.texts=2: several texts a picture are for"),
    ("dual_encoder", CUDNN | {"dtype": "float32"}, "set config.dtype=bfloat16"),
    ("dual_encoder", CUDNN | {IMAGE + "attention_dropout": 0.1}, "has no dropout"),
    ("dual_encoder", CUDNN | {IMAGE + "heads": 16}, "width / heads = 4"),
    (
        "dual_encoder",
        {IMAGE + "attention": "blockwise", IMAGE + "attention_dropout": 0.1},
        "attention='blockwise' has no dropout",
    ),
]


@pytest.mark.parametrize(("family", "changes", "said"), REFUSED)
def test_refused(family, changes, said):
    check(toy_config(family))
    with pytest.raises(UserError) as error:
        check(replace(toy_config(family), **changes))
    assert said in str(error.value)


def test_texts_that_are_masked_are_not_compared():
    settings = toy_config()
    task = settings.tasks["pairs"]
    objectives = {
        "contrastive": config.Contrastive(positives="text"),
        "words": config.MaskedLanguage(),
    }
    for name in objectives:
        only = dataclasses.replace(task, objectives={name: objectives[name]})
        check_task(only, settings, "config.tasks.pairs")
    with pytest.raises(UserError, match="compares texts whose words are masked by .*words; use"):
        both = dataclasses.replace(task, objectives=objectives)
        check_task(both, settings, "config.tasks.pairs")


def test_cudnn_where_it_can_work():
    check(replace(toy_config(), **CUDNN))
