"""Recipes to configs: options, saved runs, and what a run may change on its way."""

import json

import pytest

from multimodal import recipe
from multimodal.config import Config, Holdout, Lora, Rule, from_dict, to_dict
from multimodal.errors import UserError
from tests.toy import CONFIGS, replace, toy_config

FAMILIES = ("dual_encoder", "coca", "uniter", "prefix_lm")


def test_options_have_the_types_of_their_defaults():
    arg = recipe.parse_arg("steps=3,rate=2,fast,name=a b", steps=1, rate=0.5, fast=False, name="")
    assert arg.to_dict() == {"steps": 3, "rate": 2.0, "fast": True, "name": "a b"}
    assert recipe.parse_arg("", size=(3, 5)).size == 3
    assert recipe.parse_arg("size=5,on=false", size=(3, 5), on=True).to_dict() == {
        "size": 5,
        "on": False,
    }


@pytest.mark.parametrize(
    "arg, said",
    [
        ("step=3", "recipe option 'step' does not exist; did you mean 'steps'?"),
        ("steps=3.5", "recipe option steps='3.5' is not a int"),
        ("fast=maybe", "recipe option fast='maybe' is not a bool"),
        ("size=4", "recipe option size='4'; known: 3, 5"),
    ],
)
def test_wrong_options(arg, said):
    with pytest.raises(UserError) as error:
        recipe.parse_arg(arg, steps=1, fast=False, size=(3, 5))
    assert str(error.value) == said


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_config_is_the_recipe_it_came_from(family, tmp_path):
    config = replace(
        toy_config(family),
        ema=0.99,
        optimizer__rules=(Rule("image/.*", None), Rule("text/.*", 0.1)),
    )
    for name in config.tasks:
        config = replace(config, **{f"tasks__{name}__data__holdout": Holdout("key")})
    path = tmp_path / "config.json"
    path.write_text(json.dumps(to_dict(config)))
    assert recipe.finish(recipe.load(str(path))) == config
    assert from_dict(Config, json.loads(path.read_text())) == config


def test_every_setting_is_there_to_be_changed():
    values = recipe.load(str(CONFIGS / "toy.py"))
    assert set(values) == set(to_dict(toy_config()))
    values.ema = 0.5
    values.checkpoints.keep_every = 7
    values.model.pairs = (("image", "text"), ("text", "image"))
    config = recipe.finish(values)
    assert (config.ema, config.checkpoints.keep_every) == (0.5, 7)
    assert config.model.pairs == (("image", "text"), ("text", "image"))


TOWER = "model__towers__image__transformer__"
MAY = {
    "steps": 99,
    "name": "other",
    "log_every": 7,
    "accumulate": 2,
    "dtype": "bfloat16",
    "profile": True,
    "data_dir": "elsewhere",
    "mesh__fsdp": 4,
    "checkpoints__every": 3,
    "tasks__pairs__data__workers": 5,
    "tasks__pairs__data__max_broken": 0.5,
    "tasks__pairs__objectives__contrastive__form": "chunked",
    "tasks__pairs__objectives__contrastive__chunk": 4,
    "optimizer__offload": True,
    TOWER + "keep": "inputs",
    TOWER + "scan": False,
    TOWER + "attention": "cudnn",
}
MAY_NOT = {
    "seed": 1,
    "batch_size": 8,
    "ema": 0.9,
    "preprocessing__mean": (0.0, 0.0, 0.0),
    "optimizer__learning_rate": 0.5,
    "tasks__pairs__weight": 2.0,
    "tasks__pairs__data__group": 4,
    "tasks__pairs__data__source__train": 64,
    "tasks__pairs__objectives__contrastive__loss": "sigmoid",
    TOWER + "depth": 3,
    TOWER + "dropout": 0.5,
}


@pytest.mark.parametrize("name", MAY)
def test_a_run_may_go_on_with(name):
    config = toy_config()
    changed = replace(config, **{name: MAY[name]})
    assert changed != config
    assert recipe.first_change(config, changed) is None


@pytest.mark.parametrize("name", MAY_NOT)
def test_a_run_may_not_go_on_with(name):
    config = toy_config()
    told = recipe.first_change(config, replace(config, **{name: MAY_NOT[name]}))
    old = config
    for part in name.split("__"):
        old = old[part] if isinstance(old, dict) else getattr(old, part)
    assert told == f"config.{name.replace('__', '.')} was {old!r} and is now {MAY_NOT[name]!r}"


def test_records_may_be_chosen_by_a_field_within_their_json():
    chosen = {"json.skin_tone": (1,)}
    config = replace(toy_config(), tasks__pairs__data__where=chosen)
    values = recipe.resolve(to_dict(config))
    assert recipe.finish(values).tasks["pairs"].data.where == chosen


def test_tables_that_come_or_go():
    config = toy_config()
    more = replace(config, tasks={**config.tasks, "again": config.tasks["pairs"]})
    assert recipe.first_change(config, more) == "config.tasks was {pairs} and is now {pairs, again}"
    other = recipe.first_change(config, toy_config("coca"))
    assert other.startswith("config.model was {towers, kind, embed") and "{image, text" in other
    adapted = replace(config, lora=Lora((".*/kernel",)))
    told = "config.lora was None and is now {patterns, rank, alpha}"
    assert recipe.first_change(config, adapted) == told
    held = replace(config, tasks__pairs__data__holdout=Holdout("key"))
    assert recipe.first_change(config, held) == (
        "config.tasks.pairs.data.holdout was None and is now {by, share, keep, seed}"
    )
