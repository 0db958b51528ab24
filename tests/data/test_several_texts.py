"""Several texts of a record at once, each drawn as a single one is."""

import dataclasses
import itertools
import json

import numpy as np
import pytest

from multimodal import config
from multimodal.data.pipeline import batches
from multimodal.data.tokenizers import BpeDropout, load_tokenizer
from multimodal.data.tokenizers.train import train_clip
from multimodal.errors import UserError
from multimodal.preprocessing import Preprocessing
from tests.data.shards import encoded, picture, write_tar
from tests.data.test_tokenizer_training import TEXTS as WORDS

BYTES = Preprocessing(image_size=12, length=16)
NAMES = {"en": ["red", "blue", "green"], "de": ["rot"]}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Four records of four captions in two languages, the last of them without a picture."""
    folder = tmp_path_factory.mktemp("texts")
    rows = []
    for i in range(4):
        texts = {language: [f"{name} {i}" for name in own] for language, own in NAMES.items()}
        rows += [(f"{i}.json", json.dumps({"names": texts}).encode())]
        rows += [(f"{i}.png", encoded(picture(i)) if i < 3 else b"no picture")]
    write_tar(folder / "0.tar", rows)
    (folder / "tokenizer.json").write_bytes(train_clip(WORDS * 2, 700))
    return config.Data(
        config.Tar(str(folder)),
        fields={"image": "png", "text": "json.names"},
        languages={"en": 3.0, "de": 1.0},
        texts=3,
        max_broken=1.0,
    )


def _take(data, count=4, preprocessing=BYTES, **options):
    with batches(data, preprocessing, **({"batch_size": 8, "seed": 5} | options)) as iterator:
        return list(itertools.islice(iterator, count))


def _spoken(batch):
    tokenizer = load_tokenizer("bytes")
    return [[tokenizer.decode(ids) for ids in own] for own in batch["text"]]


def test_each_is_drawn_by_the_weights_of_the_languages(data):
    taken = _take(data, 400)
    counts = dict.fromkeys(["red", "blue", "green", "rot"], 0)
    for batch in taken:
        assert batch["text"].shape == (8, 3, 16) and batch["text"].dtype == np.int32
        for key, valid, own in zip(batch["keys"], batch["valid"], _spoken(batch), strict=True):
            assert valid == (key != "3")
            for text in own if valid else ():
                name, number = text.split()
                assert number == key
                counts[name] += 1
    total = sum(counts.values())
    assert total == 3 * 6 * 400  # 2 of 8 slots are broken
    for name, count in counts.items():
        assert count / total == pytest.approx(0.25, abs=0.02), name


def test_they_are_drawn_apart_and_a_broken_slot_is_zero(data):
    for place in range(3):
        others = [own[place] for batch in _take(data, 50) for own in _spoken(batch)]
        firsts = [own[place - 1] for batch in _take(data, 50) for own in _spoken(batch)]
        same = np.mean([a == b for a, b in zip(firsts, others, strict=True) if a])
        assert same == pytest.approx(0.25, abs=0.1)
    batch = _take(data, 1)[0]
    assert not batch["text"][~batch["valid"]].any() and not batch["valid"].all()


def test_the_first_is_the_one_that_is_drawn_alone(data):
    alone = _take(dataclasses.replace(data, texts=1))
    for one, several in zip(alone, _take(data), strict=True):
        assert one["text"].shape == (8, 16)
        np.testing.assert_array_equal(one["text"], several["text"][:, 0])


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_seed_and_position_alone_decide(data, dropout):
    path = data.source.path + "/tokenizer.json"
    data = dataclasses.replace(data, bpe_dropout=dropout)
    one_file = {"preprocessing": dataclasses.replace(BYTES, tokenizer=path)}
    alone = np.stack([b["text"] for b in _take(data, **one_file)])
    later = np.stack([b["text"] for b in _take(data, 2, start_batch=2, **one_file)])
    np.testing.assert_array_equal(later, alone[2:])
    workers = _take(dataclasses.replace(data, workers=2), **one_file)
    np.testing.assert_array_equal(np.stack([b["text"] for b in workers]), alone)
    other = np.stack([b["text"] for b in _take(data, seed=6, **one_file)])
    assert (other != alone).any()


def test_the_same_text_twice_falls_into_other_pieces(data):
    """Of one record with one caption each text is the same; its pieces are drawn for each."""
    path = data.source.path + "/tokenizer.json"
    sentence = "A photo of a red bus: {}"
    same = dataclasses.replace(data, languages={"de": 1.0}, templates=(sentence,), bpe_dropout=0.5)
    (batch,) = _take(same, 1, dataclasses.replace(BYTES, tokenizer=path, length=48))
    drawn = batch["text"][batch["valid"]]
    assert (drawn[:, 0] != drawn[:, 1]).any() and (drawn[:, 1] != drawn[:, 2]).any()
    dropout = BpeDropout(load_tokenizer(path), 0.5, seed=5)
    for slot in np.flatnonzero(batch["valid"]):
        numbers = [3 * int(batch["position"][slot]) + i for i in range(3)]
        texts = [sentence.replace("{}", f"rot {batch['keys'][slot]}").lower()] * 3
        np.testing.assert_array_equal(batch["text"][slot], dropout.encode_batch(texts, numbers, 48))


def test_none_at_all_is_refused(data):
    with pytest.raises(UserError, match=r"data\.texts=0: must be positive"):
        batches(dataclasses.replace(data, texts=0), BYTES, batch_size=8, seed=0)
