"""Random models of transformers come in with the embeddings that they have there.

Collected where torch and transformers are installed (the extra `torch`); `tests/test_convert.py`
does the same with the golden files everywhere.
"""

import jax
import numpy as np
import pytest
import torch
import transformers

from multimodal.convert import import_checkpoint
from multimodal.evaluate import restore
from multimodal.interop import export_weights
from tests.goldens.agreement import highest
from tests.interop.folders import words

pytestmark = pytest.mark.torch
CLOSE = 1e-5
TEXT = {
    "vocab_size": 40,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "max_position_embeddings": 8,
    "bos_token_id": 38,
    "eos_token_id": 39,
}
VISION = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 40,
    "image_size": 16,
    "patch_size": 4,
}
LAYERS = {name: TEXT[name] for name in list(TEXT)[:6]}


def clip(act, **text):
    config = transformers.CLIPConfig(
        text_config=TEXT | {"hidden_act": act} | text,
        vision_config=VISION | {"hidden_act": act},
        projection_dim=20,
    )
    return transformers.CLIPModel(config)


def siglip():
    text = LAYERS | {"projection_size": 24}
    config = transformers.SiglipConfig(text_config=text, vision_config=VISION)
    return transformers.SiglipModel(config)


def siglip2():
    vision = {name: x for name, x in VISION.items() if name != "image_size"} | {"num_patches": 16}
    text = LAYERS | {"projection_size": 24}
    config = transformers.Siglip2Config(text_config=text, vision_config=vision)
    return transformers.Siglip2Model(config)


def vit():
    return transformers.ViTForImageClassification(transformers.ViTConfig(**VISION, num_labels=5))


def bert():
    return transformers.BertForPreTraining(transformers.BertConfig(**LAYERS))


MODELS = {
    "clip quick_gelu": lambda: clip("quick_gelu"),
    "clip gelu": lambda: clip("gelu"),
    "clip, largest id": lambda: clip("quick_gelu", eos_token_id=2),
    "siglip": siglip,
    "siglip2": siglip2,
    "vit": vit,
    "bert": bert,
}


def randomised(model):
    """Every parameter random, gains, biases and temperatures too, so that a missed one shows."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "logit" in name:
                p.fill_(-2.0 if "bias" in name else 1.5)
            else:
                p.add_(0.2 * torch.randn(p.shape, generator=generator))
    return model.eval()


def inputs(kind):
    rng = np.random.default_rng(0)
    text = rng.integers(1, 38, (3, 8))
    text[:, -1] = 39
    image = rng.normal(size=(3, 3, 16, 16)).astype(np.float32)
    if kind == "siglip2":  # each picture with as many patches as fit
        patches = rng.normal(size=(3, 16, 48)).astype(np.float32)
        grid = np.array([[4, 4], [2, 5], [3, 4]])
        patches[np.arange(16) >= grid.prod(axis=1)[:, None]] = 0
        return text, {"patches": patches, "grid": grid}
    return text, image


def theirs(kind, model, text, image):
    ids = torch.from_numpy(text)
    if kind == "bert":
        y = model(input_ids=ids)
        return {"word_logits": y.prediction_logits, "match_logits": y.seq_relationship_logits}
    if kind == "vit":
        return {"logits": model(pixel_values=torch.from_numpy(image)).logits}
    pixels = {"pixel_values": torch.from_numpy(image)} if kind != "siglip2" else {}
    if kind == "siglip2":
        there = np.arange(16) < image["grid"].prod(axis=1)[:, None]
        pixels = {
            "pixel_values": torch.from_numpy(image["patches"]),
            "pixel_attention_mask": torch.from_numpy(there.astype(np.int32)),
            "spatial_shapes": torch.from_numpy(image["grid"]),
        }
    y = model(input_ids=ids, **pixels)
    return {"image": y.image_embeds, "text": y.text_embeds, "logits": y.logits_per_image}


def ours(kind, workdir, text, image):
    experiment, params, _ = restore(workdir)
    params = jax.device_get(params)
    if kind not in ("bert", "siglip2"):
        image = image.transpose(0, 2, 3, 1)

    @jax.jit
    def run(params):
        model = experiment.model.bind(params)
        if kind == "bert":
            return model({"text": text})
        if kind == "vit":
            return {"logits": model.towers["image"](image)["embedding"]}
        y = model({"image": image, "text": text})
        t = y["temperature"]["image-text"]
        scores = jax.numpy.exp(t["log_scale"]) * y["image"] @ y["text"].T + t.get("bias", 0.0)
        return {"image": y["image"], "text": y["text"], "logits": scores}

    with highest():
        return run(params), params


# How tensors lie in files does not depend on the model.
FORMS = [(name, "safetensors") for name in MODELS]
FORMS += [(name, form) for name in ("clip gelu", "bert") for form in ("pytorch", "shards")]


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_imported_models_embed_alike(name, form, tmp_path):
    kind = name.split()[0].strip(",")
    model, folder = randomised(MODELS[name]()), tmp_path / "there"
    if form == "pytorch":
        model.config.save_pretrained(folder)
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    else:
        model.save_pretrained(folder, max_shard_size="20KB" if form == "shards" else "1GB")
    assert (form == "shards") == (folder / "model.safetensors.index.json").is_file()
    first = "[PAD]" if kind == "bert" else "w0"
    (folder / "tokenizer.json").write_bytes(words(40, 39, first))
    import_checkpoint(folder, tmp_path / "run")
    text, image = inputs(kind)
    with torch.no_grad():
        wanted = theirs(kind, model, text, image)
    found, params = ours(kind, tmp_path / "run", text.astype(np.int32), image)
    for entry, value in wanted.items():
        scale = max(1.0, float(value.abs().max()))  # logits are as large as their scale
        error = np.abs(np.asarray(found[entry]) - value.numpy()).max()
        assert error < CLOSE * scale, f"{entry}: {error}"
    if form == "safetensors":
        out = export_weights(f"huggingface_{kind}", params)
        assert sum(x.size for x in out.values()) == sum(p.numel() for p in model.parameters())
