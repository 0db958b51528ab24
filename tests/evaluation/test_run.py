"""Evaluators over a small file of pictures, against a loop over single examples."""

import base64
import dataclasses

import jax
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix
from sklearn.neighbors import KNeighborsClassifier

from multimodal import config
from multimodal.data import array_record, images, transforms
from multimodal.data.tokenizers import load_tokenizer, tokenize
from multimodal.errors import UserError
from multimodal.evaluation import embed
from multimodal.evaluation.recalls import retrieval_recalls
from multimodal.models.build import build
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


def test_broken_examples_of_one_key_count_each(model, params, folder, records):
    rows = [records[0], records[toy.BROKEN], records[1], records[toy.BROKEN]]
    array_record.write(f"{folder}/twice", rows)
    found = run(config.Retrieval(data("twice"), batch_size=16), model, params, folder).metrics
    assert (found["examples"], found["broken"]) == (2, 2)


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


PARTS = {"where": {"count": (2,)}}, {"where": {"count": (1,)}}


def probe(kind, file="forward", **settings):
    """Trained on the records with count 1, tested on those with 2."""
    test, train = (dataclasses.replace(data(file, label="label"), **part) for part in PARTS)
    return kind(test, train=train, **settings)


def sides(expected, records):
    """Features and labels of those records, the training part first."""
    readable = [r for i, r in enumerate(records) if i != toy.BROKEN]
    labels = np.array([r["label"] for r in readable])
    train = np.array([r["count"] == 1 for r in readable])
    x = expected[0].astype(np.float64)
    return x[train], labels[train], x[~train], labels[~train]


def test_the_linear_probe_is_scikit_learns(model, params, folder, expected, records):
    x, y, test, labels = sides(expected, records)
    oracle = LogisticRegression(C=500.0, tol=1e-9, max_iter=9999, solver="newton-cg").fit(x, y)
    result = run(probe(config.LinearProbe, c=(500.0,), batch_size=16), model, params, folder)
    wanted = {
        "accuracy": accuracy_score(labels, oracle.predict(test)),
        "mean_per_class_recall": balanced_accuracy_score(labels, oracle.predict(test)),
        "chance/accuracy": 1 / 3,
        "examples": 10,
        "train_examples": 10,
        "broken": 0,
        "c": 500,
    }
    assert {k: result.metrics[k] for k in wanted} == pytest.approx(wanted, abs=1e-6)
    matrix = confusion_matrix(labels, oracle.predict(test))
    np.testing.assert_allclose(result.details["confusion"], matrix)
    assert result.details["classes"] == ["0", "1", "2"]


def test_nearest_neighbours_are_scikit_learns(model, params, folder, expected, records):
    x, y, test, labels = sides(expected, records)
    vote = lambda distance: np.exp((1 - distance) / 0.2)  # noqa: E731
    oracle = KNeighborsClassifier(4, weights=vote, metric="cosine").fit(x, y)
    settings = probe(config.KNN, k=4, temperature=0.2, batch_size=16)
    result = run(settings, model, params, folder)
    wanted = accuracy_score(labels, oracle.predict(test))
    assert result.metrics["accuracy"] == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("kind", [config.LinearProbe, config.KNN])
def test_probes_depend_on_the_examples_alone(kind, model, params, folder):
    first = run(probe(kind, batch_size=16), model, params, folder).metrics
    for change in ({"batch_size": 7}, {"file": "backward"}, {"data": 2}):
        mesh = {name: change.pop(name) for name in ("data",) if name in change}
        result = run(probe(kind, **({"batch_size": 16} | change)), model, params, folder, **mesh)
        assert result.metrics == pytest.approx(first, abs=1e-6)


def test_the_best_c_is_taken_and_both_sides_of_a_holdout_are_used(model, params, folder):
    holdout = config.Holdout(by="key", share=0.4, keep="test")
    test = dataclasses.replace(data(label="label"), holdout=holdout)
    result = run(
        config.LinearProbe(test, c=(1e4, 1e-4), batch_size=16), model, params, folder
    ).metrics
    assert result["train_examples"] + result["examples"] == 20 and result["broken"] <= 1
    alone = run(
        config.LinearProbe(test, c=(result["c"],), batch_size=16), model, params, folder
    ).metrics
    assert alone == pytest.approx(result, abs=1e-9)


def test_labels_that_are_names_need_no_classes(model, params, folder):
    named = run(config.ZeroShot(data(label="colour"), batch_size=16), model, params, folder)
    assert named.details["classes"] == sorted(CLASSES)
    listed = config.ZeroShot(data(label="label"), classes=CLASSES, batch_size=16)
    numbered = run(listed, model, params, folder)
    # In another order of the classes other resamples are drawn.
    told = [name for name in named.metrics if not name.startswith("mean_per_class_recall/")]
    wanted = {name: named.metrics[name] for name in told}
    assert {n: numbered.metrics[n] for n in told} == pytest.approx(wanted, abs=1e-12)
    turned = config.ZeroShot(
        data(label="label"), classes=CLASSES[::-1], labels=("2", "1", "0"), batch_size=16
    )
    found = run(turned, model, params, folder).metrics
    assert {n: found[n] for n in told} == pytest.approx(wanted, abs=1e-12)


def test_languages_apart(model, params, folder, records):
    settings = config.Retrieval(data(text="spoken"), languages="apart", batch_size=16)
    values = run(settings, model, params, folder).metrics
    assert values["captions"] == 3 * 20 + 10 and values["examples"] == 20
    for language in ("en", "de", "fr"):
        alone = config.Retrieval(data(text=f"spoken.{language}"), batch_size=16)
        found = run(alone, model, params, folder).metrics
        for name in ("text_to_image_R@5", "image_to_text_R@10"):
            assert values[f"{name}/language={language}"] == pytest.approx(found[name], abs=1e-12)
    first = config.Retrieval(
        data(text="spoken"), languages="apart", captions="first", batch_size=16
    )
    assert run(first, model, params, folder).metrics["captions"] == 2 * 20 + 10


def test_a_classifiers_accuracy(folder, records):
    tower = config.ImageTower(
        image_size=16,
        patch_size=8,
        transformer=config.Transformer(width=32, depth=1, heads=2, mlp=32),
    )
    settings = config.Classifier(towers={"image": tower}, classes=3)
    model = build(settings, toy.PREPROCESSING, "float32")
    params = toy.make_params(model)
    params["head/kernel"] = np.random.default_rng(0).normal(size=(32, 3)).astype(np.float32)
    readable = [r for i, r in enumerate(records) if i != toy.BROKEN]
    pixels = [transforms.fit(images.decode(r["image"]), toy.PREPROCESSING) for r in readable]
    logits = np.asarray(model.bind(params)({"image": np.array(pixels)})["class_logits"])
    labels = [r["label"] for r in readable]
    result = run(config.Accuracy(data(label="label"), batch_size=16), model, params, folder)
    wanted = accuracy_score(labels, logits.argmax(1))
    assert 0 < wanted < 1 and result.metrics["accuracy"] == pytest.approx(wanted)
    with pytest.raises(UserError, match="2 classes, but the model has 3"):
        two = config.Accuracy(data(label="label"), classes=("a", "b"), batch_size=16)
        run(two, model, params, folder)


def test_clear_words_for_what_cannot_work(model, params, folder):
    for evaluator, words in (
        (config.ZeroShot(data(label="label"), classes=("a", "b")), "label 2 of .* no name"),
        (config.Retrieval(data(), by="shape"), "by='shape' is not a field"),
        (config.Retrieval(data("broken")), "no readable example in broken; 4: unreadable picture"),
        (config.Retrieval(data(), languages="apart"), "texts without a language"),
        (config.ZeroShot(data(label="label")), "label 0 of .* is a number and needs a name"),
        (config.ZeroShot(data(label="colour"), classes=("red", "green")), "'blue' of .* no name"),
        (config.ZeroShot(data(label="missing")), "no record has 'missing'|has a label 'missing'"),
    ):
        with pytest.raises(UserError, match=words):
            run(evaluator, model, params, folder)
