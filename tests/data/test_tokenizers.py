import json

import numpy as np
import pytest

from multimodal.data.tokenizers import ByteTokenizer, FileTokenizer, cleaned, load_tokenizer
from multimodal.errors import UserError
from multimodal.preprocessing import Preprocessing


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


def special_ids(path, **changes):
    """pad, start, end of the file with some of its settings replaced."""
    settings = json.loads(path.read_text()) | changes
    changed = path.with_name(f"{len(list(path.parent.iterdir()))}.json")
    changed.write_text(json.dumps(settings))
    tokenizer = load_tokenizer(str(changed))
    return tokenizer.pad_id, tokenizer.start_id, tokenizer.end_id


def test_what_the_post_processor_adds_comes_before_customary_names(vocabulary):
    def template(*single):
        tokens = {
            name: {"id": name, "ids": [i], "tokens": [name]}
            for name, i in (("red", 5), ("green", 6))
        }
        parts = [
            {"Sequence": {"id": "A", "type_id": 0}} if name == "A"
            else {"SpecialToken": {"id": name, "type_id": 0}}
            for name in single
        ]  # fmt: skip
        one = {"type": "TemplateProcessing", "single": parts, "pair": parts * 2}
        return one | {"special_tokens": tokens}

    both = template("red", "A", "green")
    assert special_ids(vocabulary, post_processor=both) == (0, 5, 6)
    assert special_ids(vocabulary, post_processor=template("A", "green")) == (0, 1, 6)
    behind = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True,
              "use_regex": True}  # fmt: skip
    chain = {"type": "Sequence", "processors": [behind, both]}
    assert special_ids(vocabulary, post_processor=chain) == (0, 5, 6)
    assert special_ids(vocabulary, post_processor=None) == (0, 1, 2)


def test_padding_is_the_files_own_then_a_name_then_the_end(vocabulary):
    padding = json.loads(vocabulary.read_text())["padding"]
    assert special_ids(vocabulary, padding=padding | {"pad_id": 7})[0] == 7
    assert special_ids(vocabulary, padding=None)[0] == 0
    without = json.loads(vocabulary.read_text().replace("<pad>", "nothing"))
    assert special_ids(vocabulary, **without | {"padding": None})[0] == 2
    assert load_tokenizer(str(vocabulary), pad_id=3).pad_id == 3
    assert load_tokenizer(str(vocabulary)).pad_id == 0
    ids = load_tokenizer("bytes", pad_id=9).encode_batch(["a"], 5)
    assert ids.tolist() == [[1, 101, 2, 9, 9]]
    with pytest.raises(UserError, match="pad_id=9: the tokenizer has ids 0 to 8"):
        load_tokenizer(str(vocabulary), pad_id=9)


def test_a_fingerprint_is_of_what_decides_ids(vocabulary):
    def fingerprint(**changes):
        path = vocabulary.with_name("changed.json")
        path.write_text(json.dumps(json.loads(vocabulary.read_text()) | changes, indent=3))
        return FileTokenizer(str(path)).fingerprint

    same = FileTokenizer(str(vocabulary)).fingerprint
    assert fingerprint() == fingerprint(padding=None, truncation=None) == same
    lower = {"type": "Lowercase"}
    assert fingerprint(normalizer=lower) != same
    words = json.loads(vocabulary.read_text())["model"]
    assert fingerprint(model=words | {"vocab": words["vocab"] | {"new": 9}}) != same


def test_a_vocabulary_as_berts_with_gaps_between_its_ids(tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cafe", "##s"]
    settings = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [],
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "lowercase": True,
                       "handle_chinese_chars": True, "strip_accents": None},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": None, "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100,
                  "vocab": {word: i * 10 for i, word in enumerate(words)}},
    }  # fmt: skip
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(settings))
    tokenizer = FileTokenizer(str(path))
    assert tokenizer.vocab_size == 61
    assert (tokenizer.pad_id, tokenizer.start_id, tokenizer.end_id) == (0, 20, 30)
    assert (tokenizer.mask_id, tokenizer.unknown_id) == (40, 10)
    assert tokenizer.encode_batch(["CAFÉs owl"], 7).tolist() == [[20, 50, 60, 10, 30, 0, 0]]


def test_texts_are_cleaned_as_the_model_wants_them():
    texts = ["A  photo: don't\tgo!", "ÉTÉ"]
    assert cleaned(texts, Preprocessing()) == ["a  photo: don't\tgo!", "été"]
    assert cleaned(texts, Preprocessing(canonicalize=True)) == ["a photo dont go", "été"]
    assert cleaned(texts, Preprocessing(lowercase=False)) == texts
