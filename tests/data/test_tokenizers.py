import json

import numpy as np
import pytest

from multimodal.data.tokenizers import ByteTokenizer, load_tokenizer
from multimodal.errors import UserError


def test_bytes():
    tokenizer = load_tokenizer("bytes")
    assert tokenizer.vocab_size == 260
    ids = tokenizer.encode_batch(["ab", "", "é"], 6)
    assert ids.dtype == np.int32
    expected = [[1, 101, 102, 2, 0, 0], [1, 2, 0, 0, 0, 0], [1, 0xC3 + 4, 0xA9 + 4, 2, 0, 0]]
    assert ids.tolist() == expected
    bare = tokenizer.encode_batch(["ab"], 4, add_start=False, add_end=False)
    assert bare.tolist() == [[101, 102, 0, 0]]
    assert tokenizer.encode_batch(["ab"], 4, add_start=False).tolist() == [[101, 102, 2, 0]]
    full = tokenizer.encode_batch(["aaab"], 4, add_start=False, add_end=False)
    assert full.tolist() == [[101, 101, 101, 102]]


def test_bytes_and_back():
    tokenizer = ByteTokenizer()
    texts = ["", "A bird.", "naïve café ☃ 漢字 🙂", "\x00\x7f"]
    for row, text in zip(tokenizer.encode_batch(texts, 64), texts, strict=True):
        assert tokenizer.decode(row) == text
        assert tokenizer.decode(row[1:]) == text


def test_a_long_caption_is_cut_and_keeps_its_end():
    tokenizer = ByteTokenizer()
    (row,) = tokenizer.encode_batch(["x" * 10000], 16)
    assert row.tolist() == [1] + [ord("x") + 4] * 14 + [2]
    (row,) = tokenizer.encode_batch(["漢" * 10000], 16)
    assert (row[0], row[-1]) == (1, 2)
    assert tokenizer.decode(row).startswith("漢" * 4)
    assert tokenizer.encode_batch(["abc"], 2).tolist() == [[1, 2]]
    assert tokenizer.encode_batch(["abc"], 1, add_start=False).tolist() == [[2]]


def test_a_lone_surrogate_does_not_stop_the_run():
    assert ByteTokenizer().encode_batch(["a\ud800b"], 8)[0, 0] == 1


@pytest.fixture
def vocabulary(tmp_path):
    words = ["<pad>", "<s>", "</s>", "<mask>", "<unk>", "red", "green", "circle", "square"]
    backend = {
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 3, "strategy": "LongestFirst",
                       "stride": 0},
        "padding": {"strategy": {"Fixed": 12}, "direction": "Right", "pad_to_multiple_of": None,
                    "pad_id": 0, "pad_type_id": 0, "pad_token": "<pad>"},
        "added_tokens": [
            {"id": i, "content": w, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": True}
            for i, w in enumerate(words[:5])
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {"type": "BertProcessing", "sep": ["</s>", 2], "cls": ["<s>", 1]},
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": {w: i for i, w in enumerate(words)},
                  "unk_token": "<unk>"},
    }  # fmt: skip
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(backend))
    return path


def test_a_file_by_hand(vocabulary):
    for name in (vocabulary, vocabulary.parent):
        tokenizer = load_tokenizer(str(name))
        assert tokenizer.vocab_size == 9
        special = (tokenizer.pad_id, tokenizer.start_id, tokenizer.end_id, tokenizer.mask_id)
        assert special == (0, 1, 2, 3)
        texts = ["red circle", "", "green square blue red circle red"]
        ids = tokenizer.encode_batch(texts, 6)
        assert ids.dtype == np.int32
        expected = [[1, 5, 7, 2, 0, 0], [1, 2, 0, 0, 0, 0], [1, 6, 8, 4, 5, 2]]
        assert ids.tolist() == expected
        assert tokenizer.decode(ids[0]) == "red circle"
        bare = tokenizer.encode_batch(texts[:1], 3, add_start=False, add_end=False)
        assert bare.tolist() == [[5, 7, 0]]
    long = tokenizer.encode_batch(["red " * 10000], 8)
    assert long.tolist() == [[1] + [5] * 6 + [2]]


def test_wrong_names_end_in_one_line(tmp_path, vocabulary):
    with pytest.raises(UserError, match="'bites' is neither 'bytes' nor"):
        load_tokenizer("bites")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(UserError, match="cannot read"):
        load_tokenizer(str(tmp_path / "broken.json"))
    without = json.loads(vocabulary.read_text().replace("</s>", "<x>")) | {"post_processor": None}
    (tmp_path / "without.json").write_text(json.dumps(without))
    tokenizer = load_tokenizer(str(tmp_path / "without.json"))
    with pytest.raises(UserError, match="no end token; set it to False"):
        tokenizer.encode_batch(["red"], 4)
    assert tokenizer.encode_batch(["red"], 4, add_end=False).tolist() == [[1, 5, 0, 0]]
