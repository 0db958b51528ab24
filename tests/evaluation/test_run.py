"""Evaluators over a small file of pictures, against a loop over single examples."""

import base64

import jax
import numpy as np
import pytest

from multimodal import config
from multimodal.data import images, transforms
from multimodal.data.pipeline import tokenize
from multimodal.data.tokenizers import load_tokenizer
from multimodal.errors import UserError
from multimodal.evaluation import embed
from multimodal.evaluation.recalls import retrieval_recalls
from tests.evaluation import toy
from tests.evaluation.toy import data, run

CLASSES = ("red", "green", "blue")


@pytest.fixture(scope="module")
def records():
    return toy.make_records()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("data"))
    toy.write(folder)
    return folder


@pytest.fixture(scope="module")
def model():
    return toy.make_model()


@pytest.fixture(scope="module")
def params(model):
    return toy.make_params(model)


@pytest.fixture(scope="module")
def expected(model, params, records):
    """Unit vectors of readable records, one at a time: images, texts, owner."""
    encode = jax.jit(lambda x, tower: model.bind(params).encode(tower, x), static_argnums=1)
    tokenizer = load_tokenizer("bytes")
    pictures, texts, owner = [], [], []
    for record in records:
        try:
            pixels = transforms.fit(images.decode(record["image"]), toy.PREPROCESSING)
        except images.BrokenImage:
            continue
        owner += [len(pictures)] * len(record["captions"])
        pictures.append(np.asarray(encode(pixels[None], "image")[0]))
        ids = tokenize(record["captions"], toy.PREPROCESSING, tokenizer)
        texts += [np.asarray(encode(i[None], "text")[0]) for i in ids]
    return np.array(pictures), np.array(texts), np.array(owner)


@pytest.fixture(scope="module")
def base(model, params, folder):
    return run(config.Retrieval(data(), by="count", batch_size=16), model, params, folder)


def test_retrieval_equals_a_loop_over_examples(base, expected, records):
    pictures, texts, owner = expected
    counts = [r["count"] for i, r in enumerate(records) if i != toy.BROKEN]
    wanted = retrieval_recalls(pictures, texts, owner, by={"count": counts})
    found = dict(base.metrics)
    assert (found.pop("examples"), found.pop("broken"), found.pop("captions")) == (
        20,
        1,
        len(texts),
    )
    assert found == pytest.approx(wanted, abs=1e-6)
    assert 0 < wanted["text_to_image_R@5"] < 1


@pytest.mark.parametrize(
    "change",
    [
        {"batch_size": 7},
        {"batch_size": 64},
        {"file": "backward"},
        {"data": 1},
        {"data": 2, "fsdp": 4},
    ],
    ids=str,
)
def test_nothing_but_the_examples_matters(change, base, model, params, folder):
    mesh = dict(change)
    file, batch_size = mesh.pop("file", "forward"), mesh.pop("batch_size", 16)
    evaluator = config.Retrieval(data(file), by="count", batch_size=batch_size)
    result = run(evaluator, model, params, folder, **mesh)
    assert result.metrics == pytest.approx(base.metrics, abs=1e-6)


def test_each_tower_is_compiled_once(base, model, params, folder):
    before = embed._encode._cache_size()
    run(config.Retrieval(data(), batch_size=16), model, params, folder)
    assert embed._encode._cache_size() == before
    run(config.Retrieval(data(), batch_size=24), model, params, folder)
    assert embed._encode._cache_size() == before + 2


def test_first_captions_alone(model, params, folder, expected):
    pictures, texts, owner = expected
    first = np.unique(owner, return_index=True)[1]
    wanted = retrieval_recalls(pictures, texts[first], owner[first])
    result = run(config.Retrieval(data(), captions="first"), model, params, folder)
    assert {k: result.metrics[k] for k in wanted} == pytest.approx(wanted, abs=1e-6)
    assert result.metrics["captions"] == 20


def test_details_tell_what_was_retrieved(base, expected, records):
    pictures, texts, owner = expected
    readable = [r for i, r in enumerate(records) if i != toy.BROKEN]
    captions = [c for r in readable for c in r["captions"]]
    queries = base.details["text_to_image"]
    assert len(queries) == 8
    for query in queries:
        row = captions.index(query["text"])
        order = np.argsort(-(pictures @ texts[row]))[:5]
        assert [r["image"] for r in query["results"]] == [str(i) for i in order]
        assert [r["right"] for r in query["results"]] == [owner[row] == i for i in order]
        scores = [r["score"] for r in query["results"]]
        np.testing.assert_allclose(scores, pictures[order] @ texts[row], atol=1e-5)
    for query in base.details["image_to_text"]:
        image = int(query["image"])
        order = np.argsort(-(texts @ pictures[image]))[:5]
        assert [r["text"] for r in query["results"]] == [captions[t] for t in order]
        assert [r["right"] for r in query["results"]] == [owner[t] == image for t in order]
    for number, picture in base.details["images"].items():
        shown = images.decode(base64.b64decode(picture))
        pixels = images.decode(readable[int(number)]["image"])
        np.testing.assert_array_equal(shown, transforms.fit(pixels, toy.PREPROCESSING))


def test_zero_shot_equals_a_loop_over_examples(model, params, folder, expected, records):
    evaluator = config.ZeroShot(
        data(label="label"), classes=CLASSES, templates=("{}", "a {} thing"), batch_size=8
    )
    result = run(evaluator, model, params, folder)
    ids = tokenize(
        [t.replace("{}", c) for c in CLASSES for t in evaluator.templates],
        toy.PREPROCESSING,
        load_tokenizer("bytes"),
    )
    named = np.asarray(model.bind(params).encode("text", ids)).reshape(3, 2, -1).mean(1)
    named /= np.linalg.norm(named, axis=-1, keepdims=True)
    labels = np.array([r["label"] for i, r in enumerate(records) if i != toy.BROKEN])
    right = (expected[0] @ named.T).argmax(1) == labels
    wanted = {"accuracy": right.mean(), "chance/accuracy": 1 / 3, "examples": 20, "broken": 1}
    wanted["mean_per_class_recall"] = np.mean([right[labels == c].mean() for c in range(3)])
    assert {k: result.metrics[k] for k in wanted} == pytest.approx(wanted)
    assert result.details["classes"] == list(CLASSES)
    assert np.trace(result.details["confusion"]) == right.sum()
    np.testing.assert_allclose(np.sum(result.details["confusion"], 1), np.bincount(labels))


def test_clear_words_for_what_cannot_work(model, params, folder):
    for evaluator, words in (
        (config.ZeroShot(data(label="label"), classes=("a", "b")), "label 2 of .* no name"),
        (config.Retrieval(data(), by="colour"), "by='colour' is not a field"),
        (config.Retrieval(data("broken")), "no readable example"),
    ):
        with pytest.raises(UserError, match=words):
            run(evaluator, model, params, folder)
