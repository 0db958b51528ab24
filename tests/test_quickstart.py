"""What the quickstart's figures rest on: its data, its vocabulary and its yardstick."""

import numpy as np
import pytest

from multimodal import experiment, quickstart, recipe
from multimodal.data.sources import open_source
from multimodal.data.tokenizers import load_tokenizer

FIELDS = ("captions", "shapes", "colours", "num_objects")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def config():
    return recipe.finish(recipe.load(str(quickstart.RECIPE), "train=400"))


def records(source, folder):
    opened = open_source(source, folder, FIELDS)
    return [opened[i] for i in range(len(opened))]


def test_a_retriever_blind_to_one_attribute_stays_below_the_mark(config, folder):
    source = config.evaluators["unseen_pairs"].data.source
    ceilings = quickstart.blind_ceilings(source, folder)
    assert ceilings.keys() == {"shape", "colour", "size", "place"}
    assert max(ceilings.values()) < 0.45


def test_retrieval_is_among_distinct_captions_of_pairs_never_seen_in_training(config, folder):
    evaluator = config.evaluators["unseen_pairs"]
    test = records(evaluator.data.source, folder)
    assert evaluator.captions == "first"
    assert len({r["captions"][0] for r in test}) == len(test) >= 256
    assert {r["num_objects"] for r in test} == {1, 2}

    def pairs(found):
        return {p for r in found for p in zip(r["shapes"], r["colours"], strict=True)}

    single = records(config.evaluators["shape"].data.source, folder)
    train = records(config.tasks["pairs"].data.source, folder)
    assert pairs(train).isdisjoint(pairs(test) | pairs(single))


def test_the_vocabulary_has_every_word_and_the_length_holds_every_caption(config, folder):
    p = config.preprocessing
    tokenizer = load_tokenizer(p.tokenizer)
    evaluators = config.evaluators
    texts = [c for r in records(config.tasks["pairs"].data.source, folder) for c in r["captions"]]
    texts += [
        c for r in records(evaluators["by_objects"].data.source, folder) for c in r["captions"]
    ]
    for name in ("colour", "shape"):
        e = evaluators[name]
        texts += [t.replace("{}", c) for c in e.classes for t in e.templates]
    ids = tokenizer.encode_batch(texts, 2 * p.length)
    unknown = tokenizer.encode_batch(["zebra"], 3)[0, 1]
    assert unknown not in ids
    assert ((ids != tokenizer.pad_id).sum(1) <= p.length).all()
    assert (
        tokenizer.decode(ids[0]).split() == texts[0].replace(",", " ,").replace(":", " :").split()
    )


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_both_forms_of_the_recipe_can_be_built(loss):
    run = experiment.build(recipe.finish(recipe.load(str(quickstart.RECIPE), f"loss={loss}")))
    assert run.parameter_count < 600_000
    assert run.tasks["pairs"].objectives["contrastive"].settings.loss == loss
    assert np.isclose(run.model_flops() / run.config.batch_size, 60e6, rtol=0.5)
