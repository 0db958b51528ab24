import importlib.util
import pathlib
import re
from collections import Counter

import pytest

from multimodal.data.scenes.language import caption_without
from multimodal.data.scenes.questions import ANSWERS
from multimodal.data.scenes.records import SceneParams, records
from multimodal.data.scenes.world import Object

_spec = importlib.util.spec_from_file_location(
    "scenes_oracle", pathlib.Path(__file__).with_name("oracle.py")
)
oracle = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(oracle)

PARAMS = SceneParams(seed=5, train=800, validation=4, test=256, test_many=200, test_single=64)


@pytest.fixture(scope="module")
def drawn():
    return {split: list(records(PARAMS, split)) for split in ("train", "test", "test_many")}


def _everything(drawn):
    return [record for part in drawn.values() for record in part]


def test_every_caption_reads_back_to_the_whole_scene(drawn):
    def key(thing):
        return sorted(thing.items())

    for record in _everything(drawn):
        truth = sorted(map(key, oracle.things(record)))
        assert len(record["captions"]) == len(set(record["captions"])) == PARAMS.captions
        for caption in record["captions"]:
            alone = record["num_objects"] == 1
            parts = [caption] if alone else re.split(" and |, ", caption)
            assert sorted(key(oracle.read(part)) for part in parts) == truth


def test_captions_of_one_and_two_objects_are_short(drawn):
    lengths = [
        len(caption.encode())
        for record in _everything(drawn)
        for caption in record["captions"]
        if record["num_objects"] <= 2
    ]
    assert max(lengths) <= 80
    assert sum(length <= 62 for length in lengths) / len(lengths) > 0.95


def test_wordings_vary(drawn):
    firsts = Counter(
        record["captions"][0].split()[0] for record in drawn["train"] if record["num_objects"] == 1
    )
    assert len(firsts) > 8
    assert max(firsts.values()) / sum(firsts.values()) < 0.5


def test_a_caption_without_an_attribute_does_not_tell_it():
    one = (Object(0, 1, 2, 3), Object(4, 5, 0, 5))
    assert caption_without(one, "shape") == "big orange left and small blue right"
    for attribute in ("shape", "colour", "size", "place"):
        for value in (0, 1, 2):
            changed = (one[0]._replace(**{attribute: value}), one[1])
            assert caption_without(changed, attribute) == caption_without(one, attribute)
            for other in {"shape", "colour", "size", "place"} - {attribute}:
                same = getattr(one[0], attribute) == value
                assert (caption_without(changed, other) == caption_without(one, other)) == same
    assert caption_without(one[::-1], "size") == caption_without(one, "size")


def test_statements_are_labelled_truly_and_evenly(drawn):
    for record in _everything(drawn):
        assert len(set(record["statements"])) == 4
        assert sum(record["truths"]) == 2
        for statement, truth in zip(record["statements"], record["truths"], strict=True):
            assert oracle.is_true(statement, record) == truth, statement


def test_every_kind_of_statement_is_as_often_true_as_false(drawn):
    kinds = {}
    for record in _everything(drawn):
        for statement, truth in zip(record["statements"], record["truths"], strict=True):
            for start in ("there is a", "there is no", "exactly", "left of", "above", "all obj"):
                if start in statement:
                    kinds.setdefault(start, []).append(truth)
    assert len(kinds) == 6
    for start, truths in kinds.items():
        assert len(truths) >= 10, start
        assert sum(truths) / len(truths) == pytest.approx(0.5, abs=0.12), start


def test_questions_are_answered_truly_out_of_the_closed_list(drawn):
    kinds = Counter()
    for record in _everything(drawn):
        assert len(set(record["questions"])) == 4
        for question, answer in zip(record["questions"], record["answers"], strict=True):
            assert oracle.answer(question, record) == answer, question
            assert answer in ANSWERS
            kinds[question.split(" the ")[0].split(" a")[0]] += 1
    assert len(kinds) >= 6


def test_a_never_seen_pair_is_never_named_in_training_nor_a_seen_one_in_test(drawn):
    shape, colour = "|".join(oracle.SHAPES), "|".join(oracle.COLOURS)
    named = re.compile(rf"\b({colour}) ({shape})|\bthe ({shape}) is ({colour})\b")
    for split, held_out in (("train", False), ("test", True), ("test_many", True)):
        pairs = set()
        for record in drawn[split]:
            for text in record["statements"] + record["questions"]:
                pairs |= {(s or t, c or d) for c, s, t, d in named.findall(text)}
        assert len(pairs) == (16 if held_out else 48)
        for s, c in pairs:
            assert (oracle.SHAPES.index(s) % 4 == oracle.COLOURS.index(c) % 4) == held_out
