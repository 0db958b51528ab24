"""What differs between a run and the checkpoint that it starts from, by what is loaded."""

import dataclasses

import pytest

from multimodal import config
from multimodal.finetune.agreement import Meaning, disagreements, names, part_of
from multimodal.preprocessing import Preprocessing
from tests.toy import replace

BYTES = {"file": None, "fingerprint": "b", "vocab_size": 260, "pad_id": 0, "start_id": 1,
         "end_id": 2}  # fmt: skip
DUAL = config.DualEncoder({"image": config.ImageTower(), "text": config.TextTower()})
NOW = Meaning(DUAL, Preprocessing(), BYTES)
IMAGE = {"towers/image/patches/linear/kernel": "towers/image/patches/linear/kernel"}
TEXT = {"towers/text/tokens/table": "towers/text/tokens/table"}
TEMPERATURE = {"temperature/image-text/scale": "temperature/image-text/scale"}
BOTH = IMAGE | TEXT | TEMPERATURE

PICTURES = {
    "image_size": 256,
    "mean": (0.1, 0.2, 0.3),
    "std": (0.2, 0.2, 0.2),
    "resize": "squash",
    "interpolation": "area",
    "max_patches": 128,
}
TEXTS = {
    "lowercase": False,
    "canonicalize": True,
    "length": 77,
    "add_start": False,
    "add_end": False,
}
IDS = {"pad_id": 3, "start_id": 9, "end_id": 9}


def found(then, sources=BOTH):
    return [d.name for d in disagreements(NOW, then, sources)]


def test_what_agrees_has_no_difference():
    assert found(NOW) == []
    moved = dataclasses.replace(NOW.preprocessing, tokenizer="another/path/to/the/same.json")
    assert found(dataclasses.replace(NOW, preprocessing=moved)) == []


@pytest.mark.parametrize("name", [*PICTURES, *TEXTS])
def test_each_setting_of_the_input_concerns_its_tower_alone(name):
    value = (PICTURES | TEXTS)[name]
    then = replace(NOW, **{f"preprocessing__{name}": value})
    (one,) = disagreements(NOW, then, BOTH)
    assert (one.name, one.where) == (name, f"config.preprocessing.{name}")
    assert (one.now, one.then) == (getattr(NOW.preprocessing, name), value)
    concerned, other = (IMAGE, TEXT) if name in PICTURES else (TEXT, IMAGE)
    assert found(then, concerned) == [name]
    assert found(then, other) == found(then, TEMPERATURE) == []


@pytest.mark.parametrize("name", IDS)
def test_special_tokens_concern_texts(name):
    then = replace(NOW, tokenizer=BYTES | {name: IDS[name]})
    assert found(then) == found(then, TEXT) == [name]
    assert found(then, IMAGE) == []


def test_another_vocabulary_is_told_by_its_content():
    then = replace(NOW, tokenizer=BYTES | {"fingerprint": "c", "vocab_size": 300})
    (one,) = disagreements(NOW, then, TEXT)
    assert one.name == "tokenizer" and "300 tokens" in one.then
    assert found(then, IMAGE) == []


def test_what_does_not_matter_is_not_compared():
    assert found(replace(NOW, preprocessing__pad_value=0, preprocessing__patch_size=14)) == []
    then = replace(NOW, preprocessing__resize="pad", preprocessing__pad_value=0)
    assert found(then) == ["resize", "pad_value"]
    # Without a start token, its number is of no consequence.
    now = replace(NOW, preprocessing__add_start=False)
    then = replace(now, tokenizer=BYTES | {"start_id": 9})
    assert disagreements(now, then, TEXT) == []


@pytest.mark.parametrize(
    ("tower", "setting", "value"),
    [
        ("image", "transformer__activation", "quick_gelu"),
        ("text", "transformer__activation", "relu"),
        ("image", "pooler", "mean"),
        ("text", "pooler", "argmax"),
        ("image", "transformer__heads", 6),
        ("text", "transformer__causal", True),
        ("image", "transformer__norm_eps", 1e-5),
        ("text", "transformer__norm_position", "post"),
        ("text", "mask_padding", True),
    ],
)
def test_what_shapes_do_not_show_of_the_model(tower, setting, value):
    then = replace(NOW, **{f"model__towers__{tower}__{setting}": value})
    (one,) = disagreements(NOW, then, BOTH)
    dotted = setting.replace("__", ".")
    assert one.where == f"config.model.towers.{tower}.{dotted}"
    assert one.name == dotted.split(".")[-1] and one.then == value
    concerned, other = (IMAGE, TEXT) if tower == "image" else (TEXT, IMAGE)
    assert found(then, concerned) == [one.name]
    assert found(then, other) == []


def test_dropout_and_how_it_is_computed_may_differ():
    then = replace(NOW, model__towers__image__transformer__dropout=0.1,
                   model__towers__text__transformer__keep="inputs")  # fmt: skip
    assert found(then) == []


def test_towers_are_compared_by_where_their_parameters_come_from():
    image = DUAL.towers["image"]
    other = config.CoCa(
        replace(image, transformer__activation="relu"), config.TextTower(), config.Transformer()
    )
    sources = {"towers/image/final_norm/scale": "image/final_norm/scale"}
    (one,) = disagreements(NOW, replace(NOW, model=other), sources)
    assert one.where == "config.model.towers.image.transformer.activation"


def test_the_part_that_a_parameter_belongs_to():
    image, text = DUAL.towers.values()
    coca = config.CoCa(image, text, config.Transformer())
    assert part_of(DUAL, "towers/text/tokens/table") == ("config.model.towers.text", text)
    assert part_of(coca, "image/patches/linear/kernel") == ("config.model.image", image)
    assert part_of(coca, "image_projection/kernel") == ("config.model", coca)
    # A stack over both is compared by both.
    uniter = replace(NOW, model=config.Uniter(config.Transformer()))
    then = replace(uniter, preprocessing__mean=(0.0, 0.0, 0.0), preprocessing__length=9)
    both = disagreements(uniter, then, {"words/table": "words/table"})
    assert [d.name for d in both] == ["mean", "length"]


def test_all_settings_of_the_input_have_a_name_to_accept():
    told = {field.name for field in dataclasses.fields(Preprocessing)}
    assert told < names()
