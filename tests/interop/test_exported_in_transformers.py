"""Exported folders in transformers itself, offline; `make test-torch`."""

import json

import numpy as np
import pytest
from PIL import Image

import multimodal
from multimodal.data.images import decode
from multimodal.data.tokenizers import load_tokenizer, tokenize
from multimodal.data.transforms import fit
from multimodal.interop.comparison import compare
from multimodal.interop.export import export_model
from multimodal.models.build import build
from tests.interop.models import clip_tokenizer, random_params, save_run, small
from tests.interop.test_tokenizer_files import gemma_tokenizer
from tests.shared import shared_path
from tests.toy import replace

pytestmark = pytest.mark.torch
CLOSE = 1e-5
TEXTS = ["A photo of a CAT!", "naïve, 3 buses", "two dogs  in the rain", "", "東京 🙂"]
ACTIVATIONS = [("clip", "gelu"), ("clip", "quick_gelu"), ("siglip", "gelu_pytorch_tanh"),
               ("siglip2", "gelu_pytorch_tanh"), ("vit", "gelu"), ("bert", "gelu")]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def offline():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


def exported(folder, kind, act="gelu", **changes):
    """An exported folder and the preprocessing of its model."""
    settings, p, params = small(kind, clip_tokenizer(folder), act)
    if kind.startswith("siglip"):
        p = replace(p, pad_id=None)
    if kind == "siglip2":
        p = replace(p, tokenizer=str(gemma_tokenizer(folder)), add_end=False)
    p = replace(p, **changes)
    told = export_model(settings, p, params, folder / "out")
    return folder / "out", p, told


@pytest.mark.parametrize(("kind", "act"), ACTIVATIONS)
def test_embeddings_and_logits_are_those_of_the_run(tmp_path, kind, act):
    out, p, told = exported(tmp_path, kind, act)
    found = compare(told, p, out)  # refuses missing, unexpected and mismatched keys too
    names = {"bert": {"word_logits", "match_logits"}, "vit": {"logits"}}
    assert found.keys() == names.get(kind, {"image", "text", "logits"})
    assert max(found.values()) <= CLOSE, found


@pytest.mark.parametrize("kind", ["clip", "siglip", "siglip2", "bert"])
def test_their_tokenizer_gives_our_ids(tmp_path, kind):
    from transformers import AutoTokenizer

    out, p, _ = exported(tmp_path, kind)
    theirs = AutoTokenizer.from_pretrained(out)(
        TEXTS, padding="max_length", truncation=True, max_length=p.length
    )["input_ids"]
    tokenizer = load_tokenizer(p.tokenizer, p.pad_id)
    np.testing.assert_array_equal(theirs, tokenize(TEXTS, p, tokenizer))


def test_sentencepiece_in_siglips_tokenizer(tmp_path):
    from transformers import AutoTokenizer

    from multimodal.data.tokenizers.train import train_siglip
    from tests.interop.models import CAPTIONS

    path = tmp_path / "tokenizer.model"
    path.write_bytes(train_siglip(CAPTIONS * 20, 60))
    changes = {"tokenizer": str(path), "canonicalize": True, "add_start": False, "pad_id": 1}
    out, p, _ = exported(tmp_path, "siglip", **changes)
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert type(tokenizer).__name__ == "SiglipTokenizer"
    texts = [t for t in TEXTS if t]
    theirs = tokenizer(texts, padding="max_length", truncation=True)["input_ids"]
    np.testing.assert_array_equal(theirs, tokenize(texts, p, load_tokenizer(p.tokenizer, 1)))


def photos():
    """Photos, a grey one, tall, wide and tiny ones, of even and odd sizes, as PIL images."""
    import io
    import tarfile

    rng = np.random.default_rng(0)
    with tarfile.open(shared_path("data/coco-open-train.tar")) as tar:
        members = [m for m in tar if m.name.endswith(".jpg")][:12]
        found = [Image.open(io.BytesIO(tar.extractfile(m).read())).convert("RGB") for m in members]
    found.append(found[0].convert("L"))
    found += [found[1].crop((100, 0, 140, 400)), found[2].crop((0, 50, 600, 79))]
    found += [found[3].resize((7, 5)), found[4].resize((3, 19))]
    found += [found[5].resize((w, 101)) for w in (101, 102, 103, 104, 105)]
    noise = rng.integers(0, 256, (67, 93, 3), np.uint8)
    return [*found, Image.fromarray(noise)]


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("clip", {}),
        ("clip", {"resize": "squash"}),
        ("siglip", {}),
        ("vit", {}),
        ("siglip2", {}),
    ],
    ids=str,
)
def test_pixel_values_are_those_of_evaluation(tmp_path, kind, changes):
    from transformers import AutoImageProcessor

    from multimodal.data.images import from_pillow
    from multimodal.data.patches import stack

    out, p, _ = exported(tmp_path, kind, **changes)
    processor = AutoImageProcessor.from_pretrained(out)
    mean, std = np.array(p.mean), np.array(p.std)
    for number, picture in enumerate(photos()):
        theirs = processor(images=[picture], return_tensors="np")["pixel_values"][0]
        ours = stack([fit(from_pillow(picture), p)], p)
        if kind == "siglip2":  # [patches, patch * patch * 3]
            count = ours["grid"][0].prod()
            ours = ours["patches"][0, :count].reshape(count, -1, 3)
            theirs = theirs[:count].reshape(count, -1, 3)
        else:
            ours, theirs = ours[0], theirs.transpose(1, 2, 0)
        difference = np.abs((theirs * std + mean) * 255 - ours).mean()
        assert difference <= 1, (number, picture.size, difference)


def test_a_clip_folder_works_everywhere(tmp_path):
    from transformers import (
        AutoModel,
        AutoProcessor,
        AutoTokenizer,
        CLIPTextModelWithProjection,
        CLIPVisionModelWithProjection,
        pipeline,
    )

    out, p, _ = exported(tmp_path, "clip")
    model, told = AutoModel.from_pretrained(out, output_loading_info=True)
    assert type(model).__name__ == "CLIPModel"
    assert not any(told[k] for k in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    processor = AutoProcessor.from_pretrained(out)
    assert type(processor).__name__ == "CLIPProcessor"
    assert type(AutoTokenizer.from_pretrained(out)).__name__ == "CLIPTokenizer"
    picture = photos()[0]
    inputs = processor(
        text=TEXTS[:3], images=[picture], padding="max_length", truncation=True, return_tensors="pt"
    )
    whole = model(**inputs)
    for kind, name, other in (
        (CLIPTextModelWithProjection, "text_embeds", "vision_model"),
        (CLIPVisionModelWithProjection, "image_embeds", "text_model"),
    ):
        part, told = kind.from_pretrained(out, output_loading_info=True)
        assert not told["missing_keys"] and not told["mismatched_keys"]
        # Of the whole model's file: what is for the other half.
        rest = ("logit_scale", other, {"text_model": "text_projection"}.get(other, "visual_proj"))
        assert all(key.startswith(rest) for key in told["unexpected_keys"])
        entries = ("input_ids", "attention_mask") if "text" in name else ("pixel_values",)
        found = getattr(part(**{k: inputs[k] for k in entries}), name)
        found = found / found.norm(dim=-1, keepdim=True)
        np.testing.assert_allclose(
            found.detach().numpy(), getattr(whole, name).detach().numpy(), atol=CLOSE
        )
    answers = pipeline("zero-shot-image-classification", model=str(out))(
        picture, candidate_labels=["cat", "dog"]
    )
    assert {answer["label"] for answer in answers} == {"cat", "dog"}


def test_sharded_weights_load(tmp_path):
    from transformers import AutoModel

    settings, p, params = small("clip", clip_tokenizer(tmp_path))
    export_model(settings, p, params, tmp_path / "out", largest=50_000)
    assert len(list(tmp_path.glob("out/model-*.safetensors"))) > 2
    model, told = AutoModel.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"]


def test_the_pipeline_predicts_what_evaluation_does(tmp_path):
    """500 pictures, by the prompts of the pipeline's own template."""
    import io

    import pyarrow.parquet
    from transformers import pipeline

    settings, p, _ = small("clip", clip_tokenizer(tmp_path))
    settings, p = replace(settings, towers__text__length=40), replace(p, length=40)
    params = random_params(settings, p)
    table = pyarrow.parquet.read_table(shared_path("data/cifar10-train.parquet"), columns=["jpg"])
    data = [x.as_py() for x in table["jpg"][:500]]
    # What all pictures have in common would decide for one class: take it away.
    tower = build(settings, p, "float32").bind(params).towers["image"]
    pixels = np.stack([fit(decode(x), p) for x in data[:50]])
    common = np.asarray(tower(pixels)["pooled"]).mean(0)
    common /= np.linalg.norm(common)
    kernel = params["towers/image/projection/kernel"]
    params["towers/image/projection/kernel"] = kernel - np.outer(common, common @ kernel)
    model = multimodal.load(save_run(tmp_path / "run", settings, p, params))
    export_model(settings, p, params, tmp_path / "out")
    names = json.loads(shared_path("data/cifar10-classes.json").read_text())
    names = list(names.values()) if isinstance(names, dict) else names
    template = "This is a photo of {}."
    ours = model.classify(data, names, [template])
    pipe = pipeline("zero-shot-image-classification", model=str(tmp_path / "out"))
    pictures = [Image.open(io.BytesIO(x)) for x in data]
    answers = pipe(pictures, candidate_labels=names, hypothesis_template=template)
    assert [answer[0]["label"] for answer in answers] == ours.labels
    best = np.array([answer[0]["score"] for answer in answers])
    np.testing.assert_allclose(best, ours.scores.max(1), atol=2e-3)
    assert len(set(ours.labels)) > 2
