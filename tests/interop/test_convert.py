"""Name tables read both ways, and what is said when a checkpoint does not fit."""

import numpy as np
import pytest

from multimodal.errors import UserError
from multimodal.interop import LAYOUTS, SETTINGS, export_weights, import_weights
from multimodal.models.build import build

TEXT = {
    "vocab_size": 11,
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 20,
    "max_position_embeddings": 5,
}
VISION = TEXT | {"hidden_size": 8, "num_attention_heads": 2, "image_size": 8, "patch_size": 4}
TOWERS = {"text_config": TEXT, "vision_config": VISION, "projection_dim": 6}
OPENAI = {
    "embed_dim": 6,
    "image_resolution": 8,
    "vision_layers": 2,
    "vision_width": 64,
    "vision_patch_size": 4,
    "context_length": 5,
    "vocab_size": 11,
    "transformer_width": 12,
    "transformer_heads": 3,
    "transformer_layers": 3,
}
SIZES = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3}
SIZES |= {"intermediate_size": 20}
BIG_VISION_IMAGE = SIZES | {"image_size": 8, "patch_size": 4, "pooler": "map", "head": 0}
BIG_VISION_TEXT = SIZES | {
    "vocab_size": 11,
    "max_position_embeddings": 5,
    "projection_size": 12,
}
OPEN_CLIP = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 8, "layers": 2, "width": 64, "patch_size": 4},
    "text_cfg": {"context_length": 5, "vocab_size": 11, "layers": 2, "heads": 3, "width": 12},
}
TIMM = {"timm_model_name": "vit_base_patch4_siglip_8", "timm_pool": "map", "timm_proj": "none"}
SIGLIP_TEXT = {"no_causal_mask": True, "proj_bias": True, "pool_type": "last"}
CONFIGS = {
    "big_vision_siglip": {"image": BIG_VISION_IMAGE, "text": BIG_VISION_TEXT, "bias": True},
    "big_vision_vit": {"image": BIG_VISION_IMAGE | {"head": 7}},
    "huggingface_bert": TEXT,
    "huggingface_clip": TOWERS,
    "huggingface_siglip": TOWERS,
    "huggingface_siglip2": TOWERS | {"vision_config": VISION | {"num_patches": 4}},
    "huggingface_vit": VISION | {"num_labels": 3},
    "huggingface_vit_5": VISION | {"num_labels": 3},
    "open_clip_coca": {
        "embed_dim": 12,
        "vision_cfg": {"image_size": 8, "layers": 2, "width": 64, "patch_size": 4}
        | {"attn_pooler_heads": 4, "attn_pooler_queries": 3},
        "text_cfg": {"context_length": 5, "vocab_size": 11, "layers": 2, "heads": 3, "width": 12},
        "multimodal_cfg": {"layers": 3, "heads": 3, "width": 12},
    },
    "open_clip_custom": OPEN_CLIP,
    "open_clip_siglip": {
        "embed_dim": 768,
        "init_logit_bias": -10,
        "vision_cfg": TIMM | {"image_size": 8},
        "text_cfg": OPEN_CLIP["text_cfg"] | SIGLIP_TEXT,
    },
    "openai_clip": OPENAI,
}


def model_of(layout):
    return build(*SETTINGS[layout](CONFIGS[layout]), "float32")


def random_params(model):
    rng = np.random.default_rng(0)
    return {
        path: rng.normal(size=leaf.shape).astype(np.float32)
        for path, leaf in model.shapes().items()
    }


@pytest.mark.parametrize("layout", LAYOUTS)
def test_there_and_back(layout):
    model = model_of(layout)
    params = random_params(model)
    theirs = export_weights(layout, params)
    assert sum(x.size for x in theirs.values()) == sum(x.size for x in params.values())
    again = import_weights(layout, theirs, model)
    assert again.keys() == params.keys()
    for path in params:
        np.testing.assert_array_equal(again[path], params[path], err_msg=path)


def test_transforms_entry_by_entry():
    model = model_of("openai_clip")
    theirs = export_weights("openai_clip", random_params(model))
    ours = import_weights("openai_clip", theirs, model)
    patch, kernel = theirs["visual.conv1.weight"], ours["towers/image/patches/linear/kernel"]
    for o, c, p, q in [(0, 0, 0, 0), (5, 1, 2, 3), (63, 2, 3, 1)]:
        assert kernel[(p * 4 + q) * 3 + c, o] == patch[o, c, p, q]
    stacked = theirs["transformer.resblocks.2.attn.in_proj_weight"]
    bias = theirs["transformer.resblocks.2.attn.in_proj_bias"]
    for k, name in enumerate(["query", "key", "value"]):
        path = f"towers/text/stack/blocks/attention/{name}"
        part = slice(12 * k, 12 * (k + 1))
        np.testing.assert_array_equal(ours[f"{path}/kernel"][2], stacked[part].T)
        np.testing.assert_array_equal(ours[f"{path}/bias"][2], bias[part])
    # x @ proj there, x @ kernel here
    np.testing.assert_array_equal(ours["towers/image/projection/kernel"], theirs["visual.proj"])


def test_half_precision_comes_in_as_float32_and_buffers_are_passed_over():
    model = model_of("openai_clip")
    theirs = export_weights("openai_clip", random_params(model))
    theirs = {name: x.astype(np.float16) for name, x in theirs.items()}
    theirs["input_resolution"] = np.array(8)
    ours = import_weights("openai_clip", theirs, model)
    assert {x.dtype for x in ours.values()} == {np.dtype(np.float32)}


def _without(name):
    return lambda weights: weights.pop(name)


def _with(name):
    return lambda weights: weights.update({name: np.zeros(3)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            _without("vision_model.encoder.layers.1.mlp.fc1.bias"),
            r"vision_model.encoder.layers.1.mlp.fc1.bias is missing$",
        ),
        (
            _with("text_model.encoder.layers.2.mlp.fc1.bias"),
            r"text_model.encoder.layers.2.mlp.fc1.bias has no place in the model; take",
        ),
        (
            _with("vision_model.embeddings.patch_embedding.weight"),
            r"patch_embedding.weight has shape \(3,\), but the model's settings make it "
            r"\(8, 3, 4, 4\)",
        ),
    ],
)
def test_what_does_not_fit_is_named(change, message):
    model = model_of("huggingface_clip")
    theirs = export_weights("huggingface_clip", random_params(model))
    change(theirs)
    with pytest.raises(UserError, match=message):
        import_weights("huggingface_clip", theirs, model)


def test_tied_tensors_may_come_twice_but_not_differ():
    layout, words = "huggingface_bert", "bert.embeddings.word_embeddings.weight"
    model = model_of(layout)
    theirs = export_weights(layout, random_params(model))
    assert "cls.predictions.decoder.weight" not in theirs
    ours = import_weights(layout, theirs, model)
    theirs["cls.predictions.decoder.weight"] = theirs[words].copy()
    again = import_weights(layout, theirs, model)
    assert all(np.array_equal(ours[path], again[path]) for path in ours)
    theirs["cls.predictions.decoder.weight"][3, 1] += 1
    with pytest.raises(UserError, match=f"decoder.weight differs from {words}"):
        import_weights(layout, theirs, model)


def test_norms_of_the_first_bert_files():
    layout = "huggingface_bert"
    model = model_of(layout)
    theirs = export_weights(layout, random_params(model))
    first = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("Norm.bias", "Norm.beta"): x
        for name, x in theirs.items()
    }
    assert "bert.encoder.layer.1.output.LayerNorm.gamma" in first
    ours, again = (import_weights(layout, names, model) for names in (theirs, first))
    assert all(np.array_equal(ours[path], again[path]) for path in ours)
    name = "bert.encoder.layer.1.output.LayerNorm"
    said = f"{name}.gamma is {name}.weight by an older name; both are there"
    for names, other in ((first, "weight"), (theirs, "gamma")):
        with pytest.raises(UserError, match=said):
            import_weights(layout, names | {f"{name}.{other}": np.zeros(12)}, model)


def test_another_kind_of_model_is_refused():
    model = model_of("huggingface_siglip")
    theirs = export_weights("huggingface_siglip", random_params(model))
    with pytest.raises(UserError, match="no place for the parameter temperature/image-text/bias"):
        import_weights("huggingface_clip", theirs, model)
    with pytest.raises(UserError, match="no layout 'openai_clap'.*did you mean 'openai_clip'"):
        import_weights("openai_clap", theirs, model)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_parameter_is_named_twice(layout):
    rows = LAYOUTS[layout].rows
    assert len({row.theirs for row in rows}) == len(rows)
    paths = [path for row in rows for path in row.paths]
    assert len(set(paths)) == len(paths)
