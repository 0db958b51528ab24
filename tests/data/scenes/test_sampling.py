import itertools

import pytest

from multimodal.data.scenes import sampling
from multimodal.data.scenes.blind import attribute_blind_recall
from multimodal.data.scenes.records import SceneParams, scenes
from multimodal.data.scenes.world import COLOURS, SHAPES
from multimodal.errors import UserError

PARAMS = SceneParams(seed=3, train=2_000, validation=400)


@pytest.fixture(scope="module")
def splits():
    return {split: list(scenes(PARAMS, split)) for split in sampling.SPLITS}


def _pairs(shown):
    return {(SHAPES[t.shape], COLOURS[t.colour]) for scene in shown for t in scene}


def _names(scene):
    return frozenset((t.shape, t.colour, t.size, t.place) for t in scene)


def test_sizes(splits):
    assert {split: len(shown) for split, shown in splits.items()} == PARAMS.sizes()


def test_test_pairs_are_never_seen_in_training(splits):
    seen = _pairs(splits["train"]) | _pairs(splits["validation"])
    unseen = _pairs(splits["test"]) | _pairs(splits["test_many"]) | _pairs(splits["test_single"])
    assert not seen & unseen
    assert len(unseen) == 16
    assert len(seen) == 48
    for split in ("test", "test_many", "test_single"):
        assert _pairs(splits[split]) == unseen
    assert {shape for shape, _ in seen} == set(SHAPES)
    assert {colour for _, colour in seen} == set(COLOURS)


def test_no_description_is_shared_between_splits(splits):
    assert not set(map(_names, splits["train"])) & set(map(_names, splits["validation"]))


def test_groups_differ_in_exactly_one_attribute(splits):
    for split in ("train", "validation"):
        differing = set()
        for start in range(0, len(splits[split]), PARAMS.group_size):
            base, *others = splits[split][start : start + PARAMS.group_size]
            assert len({_names(base), *map(_names, others)}) == PARAMS.group_size
            for other in others:
                changed = [
                    field
                    for a, b in zip(base, other, strict=True)
                    for field in a._fields
                    if getattr(a, field) != getattr(b, field)
                ]
                assert len(changed) == 1
                differing.update(changed)
        assert differing == {"shape", "colour", "size", "place"}


def test_shares_of_object_counts(splits):
    counts = [len(scene) for scene in splits["train"]]
    assert 0.55 < counts.count(1) / len(counts) < 0.65
    assert 0.20 < counts.count(2) / len(counts) < 0.30
    assert counts.count(3) > 0
    assert counts.count(4) > 0
    assert {len(scene) for scene in splits["test_many"]} == {3, 4}
    assert {len(scene) for scene in splits["test_single"]} == {1}


def test_places_never_overlap(splits):
    for scene in itertools.chain.from_iterable(splits.values()):
        for a, b in itertools.combinations(scene, 2):
            rows, columns = abs(a.place // 3 - b.place // 3), abs(a.place % 3 - b.place % 3)
            assert 2 in (rows, columns)


@pytest.mark.parametrize(("size", "seed"), [(256, 0), (512, 0), (512, 7), (768, 1)])
def test_retrieval_set_needs_every_attribute(size, seed):
    shown = sampling.retrieval_scenes(seed, size)
    assert len(set(map(_names, shown))) == size
    assert sorted({len(scene) for scene in shown}) == [1, 2]
    for attribute, recall in attribute_blind_recall(shown).items():
        # counted again, pair by pair
        fields = [f for f in ("shape", "colour", "size", "place") if f != attribute]
        told = [sorted(tuple(getattr(t, f) for f in fields) for t in scene) for scene in shown]
        again = sum(1 / told.count(text) for text in told) / size
        assert recall == pytest.approx(again)
        assert recall < 0.45


def test_zero_shot_set_is_balanced(splits):
    pairs = [(scene[0].shape, scene[0].colour) for scene in splits["test_single"]]
    assert {pairs.count(pair) for pair in set(pairs)} == {512 // 16}


def test_a_group_depends_on_its_index_alone():
    late = sampling.group(0, "train", 41, 4)
    sampling.group(0, "train", 3, 4)
    assert sampling.group(0, "train", 41, 4) == late
    assert sampling.group(1, "train", 41, 4) != late
    assert sampling.group(0, "validation", 41, 4) != late


@pytest.mark.parametrize(
    "wrong", [{"train": 30}, {"test": 500}, {"captions": 9}, {"image_size": 4}, {"test_many": 0}]
)
def test_impossible_parameters_are_refused(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        SceneParams(**wrong)
