"""What kind of checkpoint a folder or file is, and what is said where its files do not agree."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from multimodal.errors import UserError
from multimodal.interop import SETTINGS, export_weights
from multimodal.interop.hub import is_hub_name
from multimodal.interop.source import open_source
from multimodal.models.build import build
from tests.interop.folders import CLIP_PICTURES, END, START, VISION, random_clip, words
from tests.interop.test_convert import CONFIGS, OPEN_CLIP, random_params

OPEN_CLIP_PICTURES = {"mean": [0.5] * 3, "std": [0.25] * 3, "resize_mode": "squash"}


def with_json(folder, name, **changes):
    """A folder of CLIP's with settings of one of its files replaced; None takes one away."""
    path = random_clip(folder) / name
    told = json.loads(path.read_text()) if path.is_file() else {}
    told = {k: v for k, v in (told | changes).items() if v is not None}
    path.write_text(json.dumps(told))
    return folder


def test_a_folder_of_clip(tmp_path):
    found = open_source(random_clip(tmp_path))
    p = found.preprocessing
    assert found.layout == "huggingface_clip" and len(found.tensors) == 78
    assert (p.image_size, p.resize, p.interpolation, p.length) == (16, "crop", "bicubic", 8)
    assert p.mean == tuple(CLIP_PICTURES["image_mean"]) and p.lowercase
    assert found.model.towers["text"].end_id == 39
    assert found.tokenizer == ("tokenizer.json", words(40, 39))


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"resample": 2}, {"interpolation": "bilinear"}),
        ({"do_normalize": False}, {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}),
        ({"image_mean": [0.1, 0.2, 0.3]}, {"mean": (0.1, 0.2, 0.3)}),
        ({"size": 16, "crop_size": 16}, {"resize": "crop"}),
        ({"size": {"height": 16, "width": 16}, "do_center_crop": False}, {"resize": "squash"}),
        ({"size": 16, "do_center_crop": None}, {"resize": "squash"}),
    ],
)
def test_preprocessing_comes_along(tmp_path, changes, wanted):
    found = open_source(with_json(tmp_path, "preprocessor_config.json", **changes)).preprocessing
    assert {name: getattr(found, name) for name in wanted} == wanted


@pytest.mark.parametrize(
    ("file", "changes", "said"),
    [
        ("preprocessor", {"resample": 1}, "resample=1 is not supported"),
        ("preprocessor", {"image_mean": [123.7, 116.3, 103.5]}, "image_mean=.* from 0 to 1"),
        ("preprocessor", {"image_std": [0.5, 0.5]}, "image_std=.* three numbers"),
        ("preprocessor", {"image_std": [0.5, 0, 0.5]}, "image_std=.* divided by 0"),
        ("preprocessor", {"rescale_factor": 1.0}, "rescale_factor=1.0"),
        ("preprocessor", {"do_rescale": False}, "do_rescale=false"),
        ("preprocessor", {"do_resize": False}, "do_resize=false"),
        ("preprocessor", {"crop_size": {"height": 16, "width": 8}}, "crop_size.width=8, but"),
        ("preprocessor", {"size": {"shortest_edge": 20}}, "size.shortest_edge=20 is larger"),
        ("preprocessor", {"size": {"longest_edge": 16}}, "longest_edge.* is not supported"),
        ("preprocessor", {"do_center_crop": False}, "without do_center_crop"),
        ("tokenizer", {"model_max_length": 77}, "model_max_length=77, but .* length 8"),
        ("config", {"model_type": "clap"}, "model_type='clap'; did you mean 'clip'"),
        ("config", {"vision_config": None}, "lacks 'vision_config'"),
        ("config", {"vision_config": VISION | {"hidden_act": "swish2"}}, "hidden_act 'swish2'"),
    ],
)
def test_what_does_not_go_together_is_named(tmp_path, file, changes, said):
    name = "config.json" if file == "config" else f"{file}_config.json"
    with pytest.raises(UserError, match=said):
        open_source(with_json(tmp_path, name, **changes))


def test_the_case_of_texts(tmp_path):
    folder = with_json(tmp_path, "tokenizer_config.json", do_lower_case=False)
    assert not open_source(folder).preprocessing.lowercase
    lowering = json.loads(words(40, 39)) | {"normalizer": {"type": "Lowercase"}}
    (folder / "tokenizer.json").write_text(json.dumps(lowering))
    with pytest.raises(UserError, match="do_lower_case=false, but the normalizer"):
        open_source(folder)


@pytest.mark.parametrize("lowers", [True, False])
def test_a_bert_says_itself_whether_it_is_cased(tmp_path, lowers):
    folder = random_clip(tmp_path)
    told = json.loads(words(40, 39))
    told["normalizer"] = {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": True,
        "strip_accents": None,
        "lowercase": lowers,
    }
    (folder / "tokenizer.json").write_text(json.dumps(told))
    assert open_source(folder).preprocessing.lowercase is lowers


def test_a_vocabulary_in_two_files(tmp_path):
    folder = random_clip(tmp_path)
    (folder / "tokenizer.json").unlink()
    tokens = ["a", "b", "a</w>", "b</w>", "ab</w>", START, END]
    (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\na b</w>\n")
    name, content = open_source(folder).tokenizer
    assert name == "tokenizer.json"
    from tokenizers import Tokenizer

    assert Tokenizer.from_str(content.decode()).encode("AB ab").ids == [5, 4, 4, 6]
    (folder / "vocab.json").write_text(json.dumps({"a": 0, END: 1}))
    with pytest.raises(UserError, match="not CLIP's kind of vocabulary"):
        open_source(folder)


def test_folders_that_are_no_models(tmp_path):
    with pytest.raises(UserError, match="there is no .*nowhere"):
        open_source(tmp_path / "nowhere")
    with pytest.raises(UserError, match="neither a config.json nor an open_clip_config.json"):
        open_source(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="has no weights: neither model.safetensors nor pytorch"):
        open_source(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="config.json is not JSON"):
        open_source(tmp_path)
    (tmp_path / "model.ckpt").write_bytes(b"")
    with pytest.raises(UserError, match="files end in .safetensors, .npz"):
        open_source(tmp_path / "model.ckpt")


def test_shards(tmp_path):
    whole = open_source(random_clip(tmp_path)).tensors
    weights = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    names, shards = sorted(weights), {}
    for i, part in enumerate((names[:40], names[40:])):
        save_file({n: weights[n] for n in part}, tmp_path / f"model-{i}.safetensors")
        shards |= dict.fromkeys(part, f"model-{i}.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": shards}))
    again = open_source(tmp_path)
    assert again.tensors.keys() == whole.keys()
    assert len({tensor.path for tensor in again.tensors.values()}) == 2


def open_clip_folder(folder, layout, **changes):
    config = CONFIGS[layout] | changes
    model = build(*SETTINGS[layout](config), "float32")
    told = {"model_cfg": config, "preprocess_cfg": OPEN_CLIP_PICTURES}
    (folder / "open_clip_config.json").write_text(json.dumps(told))
    params = random_params(model)
    save_file(export_weights(layout, params), folder / "open_clip_model.safetensors")
    (folder / "tokenizer.json").write_bytes(words(11, 10))
    return folder


@pytest.mark.parametrize(
    ("layout", "changes"),
    [
        ("open_clip_custom", {"custom_text": True}),
        ("open_clip_coca", {}),
        ("open_clip_siglip", {"custom_text": True}),
    ],
)
def test_a_folder_of_open_clip(tmp_path, layout, changes):
    found = open_source(open_clip_folder(tmp_path, layout, **changes))
    assert found.layout == layout
    p = found.preprocessing
    assert (p.mean, p.std, p.resize) == ((0.5,) * 3, (0.25,) * 3, "squash")


@pytest.mark.parametrize(
    ("part", "changes", "said"),
    [
        ("vision_cfg", {"layers": [3, 4, 6, 3]}, "a ResNet is not supported"),
        ("vision_cfg", {"no_ln_pre": True}, "vision_cfg.no_ln_pre=True"),
        ("vision_cfg", {"image_size": [8, 16]}, "only squares"),
        ("vision_cfg", {"timm_model_name": "vit_base_patch16_224"}, "timm_model_name='vit_base"),
        ("text_cfg", {"hf_model_name": "roberta-base"}, "text_cfg.hf_model_name='roberta-base'"),
        ("text_cfg", {"pool_type": "last"}, "text_cfg.pool_type='last'"),
        ("text_cfg", {"hf_tokenizer_name": "x", "tokenizer_kwargs": {"clean": "fold"}}, "clean="),
    ],
)
def test_settings_of_open_clip_that_are_not_there(part, changes, said):
    from multimodal.interop.open_clip import open_clip

    with pytest.raises(UserError, match=said):
        open_clip(OPEN_CLIP | {part: OPEN_CLIP[part] | changes})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"interpolation": "lanczos"}, "interpolation='lanczos'"),
        ({"resize_mode": "random"}, "resize_mode='random'"),
        ({"size": 9}, "size=9, but the model's config makes it 8"),
        ({"fill_color": [1, 2, 3]}, "fill_color"),
        ({"blur": 2}, "preprocess_cfg: blur is not supported"),
    ],
)
def test_pictures_of_open_clip(tmp_path, changes, said):
    folder = open_clip_folder(tmp_path, "open_clip_custom", custom_text=True)
    path = folder / "open_clip_config.json"
    told = json.loads(path.read_text())
    path.write_text(json.dumps(told | {"preprocess_cfg": OPEN_CLIP_PICTURES | changes}))
    with pytest.raises(UserError, match=said):
        open_source(folder)


def test_a_file_of_openai(tmp_path):
    model = build(*SETTINGS["openai_clip"](CONFIGS["openai_clip"] | SIZES), "float32")
    weights = export_weights("openai_clip", random_params(model))
    path = tmp_path / "model.safetensors"
    save_file(weights, path)
    with pytest.raises(UserError, match="nothing says which activation"):
        open_source(path)
    save_file(weights | {"context_length": np.array(5)}, path)
    found = open_source(path)
    assert found.model == SETTINGS["openai_clip"](CONFIGS["openai_clip"] | SIZES)[0]
    assert found.model.towers["text"].transformer.activation == "quick_gelu"
    del weights["visual.proj"]
    save_file(weights, path)
    with pytest.raises(UserError, match="not those of a CLIP with a ViT"):
        open_source(path)


@pytest.mark.parametrize(
    ("name", "changed", "said"),
    [
        ("text_projection", None, "is missing"),
        ("token_embedding.weight", None, "is missing"),
        ("positional_embedding", None, "is missing"),
        ("visual.positional_embedding", None, "is missing"),
        ("positional_embedding", np.zeros(5), r"has shape \(5,\), not 2 dimensions"),
        ("visual.conv1.weight", np.zeros((64, 48)), r"has shape \(64, 48\), not 4 dimensions"),
    ],
)
def test_a_file_of_openai_whose_sizes_cannot_be_told(tmp_path, name, changed, said):
    model = build(*SETTINGS["openai_clip"](CONFIGS["openai_clip"] | SIZES), "float32")
    weights = export_weights("openai_clip", random_params(model))
    weights |= {"context_length": np.array(5), name: changed}
    path = tmp_path / "model.safetensors"
    save_file({name: x for name, x in weights.items() if x is not None}, path)
    with pytest.raises(UserError, match=f"openai_clip weights: {name} {said}"):
        open_source(path)


SIZES = {"transformer_width": 128, "transformer_heads": 2}  # heads are 64 wide


def test_names_of_the_hub(tmp_path, monkeypatch):
    assert is_hub_name("openai/clip-vit-base-patch32")
    monkeypatch.chdir(random_clip(tmp_path / "a" / "b").parents[1])
    assert not any(map(is_hub_name, ("a/b", "clip", "/a/b", "./a/b/c")))
