"""BPE dropout against the tokenizers library's own, which cannot be given a seed."""

import dataclasses
import itertools

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from multimodal import config
from multimodal.data.pipeline import batches
from multimodal.data.tokenizers import BpeDropout, load_tokenizer
from multimodal.data.tokenizers.train import train_clip
from multimodal.errors import UserError
from multimodal.preprocessing import Preprocessing
from tests.data.shards import members, write_tar
from tests.data.test_tokenizer_training import ODD, TEXTS

LENGTH = 64


def _with_spaces() -> bytes:
    """GPT-2's form: words begin with their space, none has an end of its own."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<s>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=600, show_progress=False, initial_alphabet=alphabet, special_tokens=special
    )
    backend.train_from_iterator(TEXTS, trainer)
    backend.decoder = decoders.ByteLevel()
    return backend.to_str().encode()


def _llama() -> bytes:
    """Llama's: characters that the vocabulary lacks become bytes, which no merge explains."""
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    tokens = ["<unk>", "<s>", "</s>", *bytes_, "▁", "r", "e", "d", "re", "red", "▁red"]
    merges = [("r", "e"), ("re", "d"), ("▁", "red")]
    ids = {token: i for i, token in enumerate(tokens)}
    backend = Tokenizer(models.BPE(ids, merges, unk_token="<unk>", byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    return backend.to_str().encode()


@pytest.fixture(scope="module", params=["clip", "gpt2", "llama"])
def tokenizer(request, tmp_path_factory):
    path = tmp_path_factory.mktemp(request.param) / "tokenizer.json"
    made = {"clip": lambda: train_clip(TEXTS * 2, 700), "gpt2": _with_spaces, "llama": _llama}
    path.write_bytes(made[request.param]())
    return load_tokenizer(str(path))


def _counts(rows, tokenizer):
    return np.array([row.tolist().index(tokenizer.end_id) - 1 for row in rows])


def test_without_dropout_it_is_the_library(tokenizer):
    texts = [*TEXTS, *ODD, "a <|endoftext|> b </s> c"]
    wanted = tokenizer.encode_batch(texts, LENGTH)
    found = BpeDropout(tokenizer, 0.0, seed=0).encode_batch(texts, range(len(texts)), LENGTH)
    np.testing.assert_array_equal(found, wanted)


def test_it_leaves_out_as_much_as_the_library_does(tokenizer):
    text, share, draws = "red photo of buses in the rain", 0.3, 1000
    backend = Tokenizer.from_buffer(tokenizer.file[1])
    backend.model.dropout = share
    theirs = [backend.encode(text, add_special_tokens=False).tokens for _ in range(draws)]
    dropout = BpeDropout(tokenizer, share, seed=1)
    rows = dropout.encode_batch([text] * draws, range(draws), 128)
    ours = _counts(rows, tokenizer)
    expected = np.array([len(tokens) for tokens in theirs])
    assert expected.std() > 0
    error = np.sqrt((ours.var() + expected.var()) / draws)
    assert abs(ours.mean() - expected.mean()) < 4 * error
    spelt = tokenizer.tokens()
    found = {tuple(spelt[i] for i in row[1 : n + 1]) for row, n in zip(rows, ours, strict=True)}
    often = [t for t in set(map(tuple, theirs)) if theirs.count(list(t)) > draws / 20]
    assert found.issuperset(often)


def test_the_text_stays_the_same(tokenizer):
    texts = ["red", "ein red foto 写真", "a red red bus"]
    wanted = [tokenizer.decode(row) for row in tokenizer.encode_batch(texts, 128)]
    for share in (0.5, 1.0):
        rows = BpeDropout(tokenizer, share, seed=2).encode_batch(texts, [5, 6, 7], 128)
        assert [tokenizer.decode(row) for row in rows] == wanted


def test_with_full_dropout_nothing_is_merged(tokenizer):
    (row,) = BpeDropout(tokenizer, 1.0, seed=0).encode_batch(["red"], [0], 16)
    spelt = [tokenizer.tokens()[i] for i in row[1 : row.tolist().index(tokenizer.end_id)]]
    assert spelt in (["r", "e", "d</w>"], ["Ġ", "r", "e", "d"], ["▁", "r", "e", "d"])


def test_a_long_text_is_cut_and_keeps_its_end(tokenizer):
    (row,) = BpeDropout(tokenizer, 0.5, seed=0).encode_batch(["red" * 10_000], [0], 8)
    assert row[0] == tokenizer.start_id and row[-1] == tokenizer.end_id
    assert set(row[1:-1]).isdisjoint({tokenizer.start_id, tokenizer.end_id})


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for shard in range(2):
        write_tar(folder / f"{shard}.tar", members(range(6 * shard, 6 * shard + 6)))
    (folder / "tokenizer.json").write_bytes(train_clip(TEXTS * 2, 700))
    data = config.Data(
        config.Tar(str(folder / "*.tar")),
        fields={"image": "png", "text": "json.captions"},
        templates=("A photo of a red bus: {}",),
        bpe_dropout=0.5,
    )
    preprocessing = Preprocessing(
        image_size=12, length=48, tokenizer=str(folder / "tokenizer.json"), lowercase=True
    )
    return data, preprocessing


def _texts(pictures, count, **options):
    data, preprocessing = pictures
    options = {"batch_size": 8, "seed": 5} | options
    with batches(data, preprocessing, **options) as iterator:
        return np.stack([b["text"] for b in itertools.islice(iterator, count)])


def test_seed_and_position_alone_decide(pictures):
    alone = _texts(pictures, 4)
    parts = [_texts(pictures, 4, process_index=i, process_count=2) for i in range(2)]
    np.testing.assert_array_equal(np.concatenate(parts, 1), alone)
    np.testing.assert_array_equal(_texts(pictures, 2, start_batch=2), alone[2:])
    whole = dataclasses.replace(pictures[0], bpe_dropout=0.0)
    assert (_texts((whole, pictures[1]), 4) != alone).any()
    assert (_texts(pictures, 4, seed=6) != alone).any()


@pytest.mark.parametrize("added", [True, False])
def test_texts_are_cleaned_and_bounded_as_without_it(pictures, added):
    data, preprocessing = pictures
    own = dataclasses.replace(preprocessing, canonicalize=True, add_start=added, add_end=added)
    none, hardly = (dataclasses.replace(data, bpe_dropout=share) for share in (0.0, 1e-12))
    np.testing.assert_array_equal(_texts((hardly, own), 2), _texts((none, own), 2))


def test_what_merges_no_pairs_is_refused(pictures, tmp_path):
    data, preprocessing = pictures
    path = tmp_path / "tokenizer.json"
    words = Tokenizer(models.WordPiece({"[UNK]": 0, "red": 1}, unk_token="[UNK]"))
    path.write_text(words.to_str())
    for name in ("bytes", str(path)):
        with pytest.raises(UserError, match=r"data\.bpe_dropout=0\.5: .* merges no pairs; give"):
            batches(data, dataclasses.replace(preprocessing, tokenizer=name), batch_size=8, seed=0)
    for wrong in (-0.1, 1.5):
        with pytest.raises(UserError, match=rf"data\.bpe_dropout={wrong}: a probability"):
            batches(
                dataclasses.replace(data, bpe_dropout=wrong), preprocessing, batch_size=8, seed=0
            )
