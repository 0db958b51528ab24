"""Folders for transformers, read with nothing but JSON and safetensors."""

import dataclasses
import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from multimodal import config, recipe
from multimodal.errors import UserError
from multimodal.interop import SETTINGS, import_weights
from multimodal.interop.config_json import differences
from multimodal.interop.export import export_model, for_inference
from multimodal.interop.source import open_source
from multimodal.models.build import build
from multimodal.zoo import siglip2
from tests.interop.models import clip_tokenizer, random_params, small
from tests.toy import CONFIGS, replace


def weights(folder):
    return {
        k: x for file in sorted(folder.glob("*.safetensors")) for k, x in load_file(file).items()
    }


@pytest.mark.parametrize("kind", ["bert", "clip", "siglip", "vit"])
def test_a_folder_holds_the_model_and_nothing_else(tmp_path, kind):
    settings, preprocessing, params = small(kind, clip_tokenizer(tmp_path))
    out = tmp_path / "out"
    told = export_model(settings, preprocessing, params, out)
    layout = f"huggingface_{kind}"
    again, _ = SETTINGS[layout](json.loads((out / "config.json").read_text()))
    model = build(again, preprocessing, "float32")
    back = import_weights(layout, weights(out), model)
    assert back.keys() == params.keys()
    for path in params:
        np.testing.assert_array_equal(back[path], params[path], err_msg=path)
    assert len({file.stat().st_mode for file in out.iterdir()}) == 1, "readers of one read all"
    texts = {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"}
    pictures = {"preprocessor_config.json"}
    wanted = {"config.json", "model.safetensors"}
    wanted |= texts if kind != "vit" else set()
    wanted |= pictures if kind != "bert" else set()
    assert {file.name for file in out.iterdir()} == wanted
    count = sum(x.size for x in params.values())
    assert str(told).startswith(f"{count:,} parameters in {len(weights(out))} tensors, 1 file")


def test_large_weights_are_written_in_shards_with_an_index(tmp_path):
    settings, preprocessing, params = small("vit")
    export_model(settings, preprocessing, params, tmp_path / "whole")
    told = export_model(settings, preprocessing, params, tmp_path / "parts", largest=20_000)
    files = sorted(tmp_path.glob("parts/*.safetensors"))
    assert told.files == len(files) > 2
    assert files[0].name == f"model-00001-of-{len(files):05d}.safetensors"
    assert all(sum(x.nbytes for x in load_file(f).values()) <= 20_000 for f in files)
    index = json.loads((tmp_path / "parts/model.safetensors.index.json").read_text())
    whole = weights(tmp_path / "whole")
    assert index["metadata"]["total_size"] == sum(x.nbytes for x in whole.values())
    assert index["weight_map"].keys() == whole.keys()
    for name, file in index["weight_map"].items():
        np.testing.assert_array_equal(load_file(tmp_path / "parts" / file)[name], whole[name])


@pytest.mark.parametrize("act", ["gelu", "quick_gelu"])
@pytest.mark.parametrize("pooler", ["end", "argmax"])
def test_a_folder_for_open_clip_is_read_as_it_was_written(tmp_path, act, pooler):
    settings, preprocessing, params = small("clip", clip_tokenizer(tmp_path), act)
    settings = replace(settings, towers__text__pooler=pooler, towers__image__transformer__mlp=35)
    params = random_params(settings, preprocessing)
    out = tmp_path / "out"
    told = export_model(settings, preprocessing, params, out, to="open_clip")
    assert told.layout == "openai_clip"
    assert (out / "open_clip_model.safetensors").is_file() and not (out / "config.json").exists()
    source = open_source(out)
    assert source.layout == "openai_clip" and not differences(settings, source.model)
    for name in ("mean", "std", "resize", "interpolation", "length", "image_size"):
        assert getattr(source.preprocessing, name) == getattr(preprocessing, name)
    model = build(source.model, source.preprocessing, "float32")
    back = import_weights(source.layout, source.tensors, model)
    for path in params:
        np.testing.assert_array_equal(back[path], params[path], err_msg=path)


@pytest.mark.parametrize("form", ["clip", "siglip"])
def test_a_recipe_for_own_pictures_makes_a_model_that_others_read(tmp_path, form):
    given = f"form={form},depth=1,patch=32,length=16"
    given += f",tokenizer={clip_tokenizer(tmp_path)}" if form == "clip" else ",loss=sigmoid"
    run = recipe.finish(recipe.load(str(CONFIGS / "pairs.py"), given))
    params = random_params(run.model, run.preprocessing)
    export_model(run.model, run.preprocessing, params, tmp_path / "out")
    source = open_source(tmp_path / "out")
    assert source.layout == f"huggingface_{form}" and not differences(run.model, source.model)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("form=clip", "form=clip: tokenizer=bytes has no end token of CLIP's kind; name a vocab"),
        ("form=siglip", "form=siglip goes with loss=sigmoid, not with loss=softmax"),
        ("form=siglip,loss=sigmoid,embed=64", "form=siglip has embed=192, its width, not 64"),
    ],
)
def test_a_form_that_does_not_go_with_the_rest_is_refused(given, told):
    with pytest.raises(UserError, match=told):
        recipe.load(str(CONFIGS / "pairs.py"), given)


def test_what_open_clip_does_not_have_is_named(tmp_path):
    out = tmp_path / "out"
    for kind, change, told in (
        ("siglip", {}, "only a dual encoder of CLIP's form"),
        ("bert", {}, "config.model.kind='bert': only a dual encoder"),
        ("clip", {"towers__image__pre_norm": False}, "image.pre_norm=False: CLIP of open_clip"),
        ("clip", {"towers__text__transformer__norm_eps": 1e-6}, "norm_eps=1e-06: CLIP of open_cl"),
    ):
        settings, preprocessing, params = small(kind, clip_tokenizer(tmp_path))
        with pytest.raises(UserError, match=told):
            export_model(replace(settings, **change), preprocessing, params, out, to="open_clip")
        assert not out.exists()


def test_what_siglip2_has_for_training_alone_is_left_out(tmp_path):
    sizes = {"width": 24, "depth": 1, "heads": 2, "mlp": 32}
    values = siglip2("B-16-224")
    model = config.from_dict(
        config.Config, {"name": "x", "tasks": {}, "model": values["model"]}
    ).model
    small_stack = config.Transformer(**sizes)
    model = replace(
        model,
        embed=24,
        decoder=replace(small_stack, cross_attention=True),
        heads=config.Heads(hidden=8, bottleneck=4, prototypes=16),
        towers__image__image_size=32,
        towers__image__transformer=small_stack,
        towers__text__vocab_size=548,
        towers__text__transformer=small_stack,
    )
    preprocessing = config.from_dict(type(small("vit")[1]), values["preprocessing"])
    preprocessing = dataclasses.replace(
        preprocessing, image_size=32, tokenizer=str(clip_tokenizer(tmp_path))
    )
    params = random_params(model, preprocessing)
    told = export_model(model, preprocessing, params, tmp_path / "out")
    assert told.layout == "huggingface_siglip" and "blank" in told.left_out
    assert {"captioner", "heads"} < set(told.left_out)
    kept = build(for_inference(model), preprocessing, "float32").shapes()
    assert told.params.keys() == kept.keys()


def test_a_classifiers_head_becomes_vits(tmp_path):
    settings, preprocessing, params = small("vit")
    tower = replace(settings.towers["image"], projection="none")
    model = config.Classifier({"image": tower}, classes=5)
    params = random_params(model, preprocessing)
    export_model(model, preprocessing, params, tmp_path / "out", classes=tuple("abcde"))
    theirs = weights(tmp_path / "out")
    np.testing.assert_array_equal(theirs["classifier.weight"], params["head/kernel"].T)
    np.testing.assert_array_equal(theirs["classifier.bias"], params["head/bias"])
    assert json.loads((tmp_path / "out/config.json").read_text())["id2label"]["2"] == "c"
    with pytest.raises(UserError, match="image.projection='linear'.*before its head"):
        model = replace(model, towers__image__projection="linear")
        export_model(model, preprocessing, params, tmp_path / "no")


def test_what_is_not_exported_says_why_and_leaves_nothing(tmp_path):
    settings, preprocessing, params = small("clip", clip_tokenizer(tmp_path))
    out = tmp_path / "out"

    def refused(told, settings=settings, preprocessing=preprocessing):
        with pytest.raises(UserError, match=told):
            export_model(settings, preprocessing, params, out)
        assert not out.exists()

    refused("resize='pad'", preprocessing=replace(preprocessing, resize="pad"))
    refused("interpolation='area'", preprocessing=replace(preprocessing, interpolation="area"))
    refused("image_size=64, but", preprocessing=replace(preprocessing, image_size=64))
    refused("length=8, but", preprocessing=replace(preprocessing, length=8))
    refused("pre_norm=False", settings=replace(settings, towers__image__pre_norm=False))
    other = dict(settings.towers) | {"audio": settings.towers["image"]}
    refused("towers: image, text, audio", settings=replace(settings, towers=other))
    features = settings.towers | {"image": config.Precomputed(24)}
    refused("kind='precomputed'", settings=replace(settings, towers=features))
    decoder = config.PrefixLM(settings.towers["image"], config.Transformer())
    refused("config.model.kind='prefix_lm'", settings=decoder)
    out.mkdir()
    (out / "mine").write_text("")
    with pytest.raises(UserError, match="is there already; name a new folder"):
        export_model(settings, preprocessing, params, out)
    assert [file.name for file in out.iterdir()] == ["mine"]
