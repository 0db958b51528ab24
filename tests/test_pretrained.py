"""`multimodal.load`: one call gives a model that can be asked about pictures and texts."""

import dataclasses
import subprocess
import sys

import jax
import jax.monitoring
import numpy as np
import pytest
from PIL import Image

import multimodal
from multimodal import config
from multimodal.data.tokenizers import tokenize
from multimodal.data.transforms import fit
from multimodal.errors import UserError
from multimodal.finetune.lora import adapt
from multimodal.interop.export import export_model
from multimodal.models.build import build
from multimodal.pretrained import _temperature, names, published
from tests.interop.models import clip_tokenizer, random_params, save_run, small
from tests.toy import replace

CLOSE = {"rtol": 0, "atol": 1e-5}
TEXTS = ["a cat", "two dogs in the rain", "A CAT"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder, and its model's settings, preprocessing and parameters."""
    root = tmp_path_factory.mktemp("run")
    parts = small("clip", clip_tokenizer(root))
    return save_run(root, *parts), *parts


@pytest.fixture(scope="module")
def model(run):
    return multimodal.load(run[0], batch_size=8)


@pytest.fixture(scope="module")
def photos():
    return np.random.default_rng(0).integers(0, 256, (11, 40, 60, 3), np.uint8)


def test_the_package_alone_needs_nothing():
    code = "import multimodal, sys; assert not {'jax', 'numpy'} & sys.modules.keys()"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    with pytest.raises(AttributeError, match="no attribute 'laod'"):
        multimodal.laod  # noqa: B018


def test_embeddings_are_the_models_own(run, model, photos):
    _, settings, preprocessing, params = run
    own = build(settings, preprocessing, "float32")
    batch = {
        "image": np.stack([fit(x, preprocessing) for x in photos]),
        "text": tokenize(TEXTS, preprocessing, model.tokenizer),
    }
    want = jax.device_get(jax.jit(lambda p: own.bind(p)(batch))(params))
    np.testing.assert_allclose(model.encode_image(photos), want["image"], **CLOSE)
    np.testing.assert_allclose(model.encode_text(TEXTS), want["text"], **CLOSE)
    np.testing.assert_array_equal(*model.encode_text(TEXTS)[[0, 2]])  # lower-cased
    cosines = want["image"] @ want["text"].T
    logits = np.exp(want["temperature"]["image-text"]["log_scale"]) * cosines
    scores = np.exp(logits - logits.max(1, keepdims=True))
    scores /= scores.sum(1, keepdims=True)
    found = model.classify(photos, TEXTS)
    np.testing.assert_allclose(found.scores, scores, rtol=0, atol=1e-4)
    assert found.labels == [TEXTS[i] for i in scores.argmax(1)]
    best = model.retrieve(photos, TEXTS, k=2)
    np.testing.assert_allclose(best.scores, cosines, **CLOSE)
    assert best.images.shape == (3, 2) and best.texts.shape == (11, 2)
    for t in range(3):
        assert cosines[best.images[t, 0], t] == pytest.approx(cosines[:, t].max(), abs=1e-5)


def test_the_temperature_is_that_of_pictures_and_texts():
    several = {f"temperature/{pair}/scale": x for pair, x in
               (("audio-image", 1.0), ("image-text", 2.0), ("text-audio", 3.0))}  # fmt: skip
    assert _temperature(several | {"temperature/text-audio/bias": -9.0}) == (2.0, None)
    assert _temperature(several | {"temperature/image-text/bias": -1.0}) == (2.0, -1.0)
    assert _temperature({"temperature/scale": 4.0}) == (4.0, None)  # CoCa
    with pytest.raises(UserError, match="not trained to compare images with texts"):
        _temperature({"temperature/audio-image/scale": 1.0})


def test_templates_are_averaged(model, photos):
    templates = ("a photo of a {}", "two {}s")
    prompts = [t.format(c) for c in ("cat", "dog") for t in templates]
    classes = model.encode_text(prompts).reshape(2, 2, -1).mean(1)
    classes /= np.linalg.norm(classes, axis=-1, keepdims=True)
    logits = np.exp(model.params["temperature/image-text/scale"]) * (
        model.encode_image(photos) @ classes.T
    )
    found = model.classify(photos, ["cat", "dog"], templates).scores
    np.testing.assert_allclose(np.log(found[:, 0] / found[:, 1]), -np.diff(logits)[:, 0], atol=1e-4)


def test_files_arrays_and_pil_images_are_the_same(model, photos, tmp_path):
    Image.fromarray(photos[0]).save(tmp_path / "a.png")
    picture = Image.fromarray(photos[0])
    forms = [photos[0], picture, tmp_path / "a.png", str(tmp_path / "a.png"),
             (tmp_path / "a.png").read_bytes()]  # fmt: skip
    found = model.encode_image(forms)
    for row in found:
        np.testing.assert_allclose(row, found[0], **CLOSE)
    np.testing.assert_allclose(model.encode_image(picture), found[:1], **CLOSE)
    grey = photos[0, :, :, 0]
    both = model.encode_image([grey, Image.fromarray(grey), np.repeat(grey[..., None], 3, 2)])
    np.testing.assert_allclose(both, both[:1].repeat(3, 0), **CLOSE)
    picture.getexif()[0x0112] = 6  # on its side
    turned = model.encode_image([picture, np.rot90(photos[0], -1)])
    np.testing.assert_allclose(turned[0], turned[1], **CLOSE)


def test_any_number_of_examples_is_compiled_once(model, photos):
    model.encode_image(photos[:1])
    model.encode_text(["a"])
    compiled = []
    event = "/jax/core/compile/backend_compile_duration"
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, *_, **__: compiled.append(name) if name == event else None
    )
    for count in (1, 3, 8, 11):
        assert model.encode_image(photos[:count]).shape == (count, 12)
        assert model.encode_text([f"text {i}" for i in range(count)]).shape == (count, 12)
    assert not compiled


def test_a_folder_for_others_is_loaded_as_the_run_is(run, model, photos, tmp_path):
    folder, *parts = run
    export_model(*parts, tmp_path / "out")
    other = multimodal.load(tmp_path / "out", batch_size=8)
    np.testing.assert_allclose(other.encode_image(photos), model.encode_image(photos), **CLOSE)
    np.testing.assert_allclose(other.encode_text(TEXTS), model.encode_text(TEXTS), **CLOSE)


def test_a_name_on_the_hub_is_fetched(run, photos, tmp_path, monkeypatch):
    _, *parts = run
    export_model(*parts, tmp_path / "out")
    monkeypatch.setattr("multimodal.pretrained.fetch", {"owner/small": tmp_path / "out"}.get)
    monkeypatch.setattr(
        "multimodal.pretrained.published",
        lambda name: parts[:2] if name == "small" else None,
    )
    for arguments in (("owner/small",), ("small", "owner/small")):
        assert multimodal.load(*arguments).settings.embed == parts[0].embed
    with pytest.raises(UserError, match="step=7 is of a run folder, and owner/small is none"):
        multimodal.load("owner/small", step=7)


def test_a_source_without_a_tokenizer_reads_no_texts(run, model, photos, tmp_path):
    _, *parts = run
    export_model(*parts, tmp_path / "out")
    for file in tmp_path.glob("out/*token*"):
        file.unlink()
    other = multimodal.load(tmp_path / "out", batch_size=8)
    assert other.tokenizer is None
    np.testing.assert_allclose(other.encode_image(photos), model.encode_image(photos), **CLOSE)
    with pytest.raises(UserError, match="the source has no tokenizer; load"):
        other.classify(photos, ["cat", "dog"])
    told = multimodal.load(tmp_path / "out", tokenizer=parts[1].tokenizer, batch_size=8)
    np.testing.assert_allclose(told.encode_text(TEXTS), model.encode_text(TEXTS), **CLOSE)


def test_a_tokenizer_of_more_tokens_than_the_model_has_is_refused(model):
    text = dataclasses.replace(model.settings.towers["text"], vocab_size=500, pooler="last")
    coca = config.CoCa(model.settings.towers["image"], text, text.transformer)
    for settings in (config.DualEncoder({"text": text}), coca):
        with pytest.raises(UserError, match="the model has 500 tokens.*has 548; give the right"):
            dataclasses.replace(model, settings=settings).encode_text("a")


def test_an_adapted_run_is_merged(run, photos, tmp_path):
    _, settings, preprocessing, params = run
    lora = config.Lora((".*/query/kernel",), rank=2)
    own = build(settings, preprocessing, "float32")
    adapted = adapt(own, lora)
    rng = np.random.default_rng(1)
    added = {p: x for p, x in adapted.shapes().items() if p not in params}
    added = {p: rng.normal(size=x.shape).astype(np.float32) for p, x in added.items()}
    folder = save_run(tmp_path, settings, preprocessing, params | added, lora=lora)
    found = multimodal.load(folder).encode_image(photos)
    images = np.stack([fit(x, preprocessing) for x in photos])
    want = own.bind(adapted.plain(params | added)).encode("image", images)
    np.testing.assert_allclose(found, want, **CLOSE)


def test_a_sigmoid_models_scores_stand_alone(tmp_path, photos):
    parts = small("siglip", clip_tokenizer(tmp_path))
    parts[2]["temperature/image-text/bias"] = np.float32(-1.5)
    model = multimodal.load(save_run(tmp_path, *parts))
    scores = model.classify(photos[:2], ["cat", "dog"]).scores
    cosines = model.encode_image(photos[:2]) @ model.encode_text(["cat", "dog"]).T
    scale = np.exp(parts[2]["temperature/image-text/scale"])
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(1.5 - scale * cosines)), atol=1e-5)


def test_a_classifier_has_classes_of_its_own(tmp_path, photos):
    settings, preprocessing, _ = small("vit")
    tower = replace(settings.towers["image"], projection="none")
    settings = config.Classifier({"image": tower}, classes=3)
    params = random_params(settings, preprocessing)
    model = multimodal.load(save_run(tmp_path, settings, preprocessing, params))
    found = model.classify(photos, ["a", "b", "c"])
    np.testing.assert_allclose(found.scores.sum(1), 1)
    features = model.encode_image(photos)
    logits = features @ params["head/kernel"] + params["head/bias"]
    assert found.labels == ["abc"[i] for i in logits.argmax(1)]
    with pytest.raises(UserError, match="classifier does not encode texts"):
        model.encode_text("a")
    with pytest.raises(UserError, match="2 classes, but the model has 3"):
        model.classify(photos, ["a", "b"])


def test_an_imported_vit_has_no_classes_to_name(tmp_path, photos):
    model = multimodal.load(save_run(tmp_path, *small("vit")))
    np.testing.assert_allclose(np.linalg.norm(model.encode_image(photos), axis=1), 1, atol=1e-5)
    with pytest.raises(UserError, match="classify: a model of kind dual_encoder without texts"):
        model.classify(photos, list("abcde"))


def test_published_models_have_names(run):
    assert {"clip-vit-b-32", "siglip-so400m-14-384", "siglip2-b-16-256", "coca-base"} <= set(
        names()
    )
    settings, preprocessing = published("CLIP-ViT-B32")
    assert settings.embed == 512 and preprocessing.length == 77
    assert all(published(name) for name in names())
    assert published("clip") is None


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("clip-vit-b33",), "neither a folder nor a published model; did you mean 'clip-vit-b-32'"),
        (("clip-vit-b32",), "clip-vit-b32: give checkpoint=PATH.*or random=True"),
        (("clip-vit-b32", "RUN"), r"RUN is not clip-vit-b32: config.model.embed=12 there, and 512"),
        (("clip-vit-b33", "RUN"), "no published model 'clip-vit-b33'; did you mean"),
        (("EMPTY",), "EMPTY is no model's folder"),
    ],
)
def test_what_cannot_be_loaded_is_told(run, tmp_path, arguments, told):
    places = {"RUN": str(run[0]), "EMPTY": str(tmp_path)}
    for name, path in places.items():
        told = told.replace(name, path)
    with pytest.raises(UserError, match=told):
        multimodal.load(*(places.get(a, a) for a in arguments))


def test_parameters_are_drawn_only_when_that_is_asked_for(run, monkeypatch):
    _, settings, preprocessing, _ = run
    monkeypatch.setattr("multimodal.pretrained.published", lambda _: (settings, preprocessing))
    model = multimodal.load("small", random=True)
    assert model.encode_image(np.zeros((8, 8, 3), np.uint8)).shape == (1, 12)
    with pytest.raises(UserError, match="the source has no tokenizer; load"):
        model.encode_text("a")
    told = multimodal.load("small", random=True, tokenizer=preprocessing.tokenizer)
    assert told.encode_text("a").shape == (1, 12)
    with pytest.raises(UserError, match="give checkpoint=PATH"):
        multimodal.load("small", run[0], random=True)
    with pytest.raises(UserError, match="step=3 is of a run folder, and random=True"):
        multimodal.load("small", random=True, step=3)


def test_what_cannot_be_encoded_is_named(model, photos, tmp_path):
    (tmp_path / "torn.jpg").write_bytes(b"\xff\xd8torn")
    for wrong, told in (
        (photos[0].astype(float), "picture 0 is float64 .40, 60, 3.; a picture is a file"),
        ([photos[0], photos[1, :, :, :2]], "picture 1 is uint8 .40, 60, 2."),
        ([3], "picture 0 is int; a picture is"),
        (tmp_path / "none.jpg", "cannot read the picture .*none.jpg: No such file"),
        (tmp_path / "torn.jpg", "torn.jpg: unreadable picture"),
        ([], "no picture is given"),
    ):
        with pytest.raises(UserError, match=told):
            model.encode_image(wrong)
    for wrong, told in (([3], "3 is no text"), ([], "no text is given")):
        with pytest.raises(UserError, match=told):
            model.encode_text(wrong)
    with pytest.raises(UserError, match="'a photo' has no {} for the name"):
        model.classify(photos, ["cat"], ["a photo"])
    with pytest.raises(UserError, match="classes is a list"):
        model.classify(photos, "cat")
    with pytest.raises(UserError, match="k=0 is not positive"):
        model.retrieve(photos, TEXTS, k=0)
