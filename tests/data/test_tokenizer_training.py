"""Vocabularies trained here, against CLIP's algorithm written out, and the command that trains."""

import functools
import json
import subprocess
import sys
import tarfile
import unicodedata

import numpy as np
import pytest

from multimodal import experiment, zoo
from multimodal.config import DualEncoder, from_dict
from multimodal.data.sources import in_test
from multimodal.data.tokenizers import FileTokenizer, load_tokenizer
from multimodal.data.tokenizers.train import clip_file, train_clip, train_siglip
from multimodal.errors import UserError
from multimodal.tokenize import texts_of
from tests.commands import finish, start
from tests.shared import shared_path

TEXTS = [
    "A photo of a red bus, parked in the rain.",
    "Two dogs don't share 24 tennis balls!",
    "the naïve café owner's   Photo\n of 3 buses",
    "ein Foto von zwei Hunden im Regen",
    "写真 и фото ☃ #1 :-)",
]
ODD = ["", "  ", "It'S 'LL we'll ''s", "Ünïcödé ǅ ß 1234", "🙂🙂 a\tb\u00a0c", "x" * 300, "e\u0301"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "tokenizer.json"
    path.write_bytes(train_clip(TEXTS * 2, 700))
    return path


def is_a(kind: str):
    return lambda c: unicodedata.category(c).startswith(kind)


def words(text: str) -> list[str]:
    """CLIP's pattern by hand: endings, letters, one number, anything else but spaces."""
    letter, number = is_a("L"), is_a("N")
    found, i = [], 0
    while i < len(text):
        ending = next((e for e in ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")
                       if text.startswith(e, i)), None)  # fmt: skip
        j = i + 1
        if ending:
            j = i + len(ending)
        elif letter(text[i]):
            while j < len(text) and letter(text[j]):
                j += 1
        elif not number(text[i]) and not text[i].isspace():
            while j < len(text) and not (letter(text[j]) or number(text[j]) or text[j].isspace()):
                j += 1
        if not text[i].isspace():
            found.append(text[i:j])
        i = j
    return found


@functools.cache
def merges(path):
    """(id of each token, rank of each pair, letter of each byte) of a vocabulary's file."""
    model = json.loads(path.read_text())["model"]
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    shown = {b: chr(b) for b in plain}
    shown |= {b: chr(256 + i) for i, b in enumerate(sorted(set(range(256)) - set(plain)))}
    return model["vocab"], {tuple(pair): i for i, pair in enumerate(model["merges"])}, shown


@functools.cache
def ids_of(path, word: str) -> list[int]:
    """The word's bytes, the earliest merge first until none is left."""
    ids, rank, shown = merges(path)
    parts = [shown[b] for b in word.encode()]
    parts[-1] += "</w>"
    while pairs := [p for p in zip(parts, parts[1:], strict=False) if p in rank]:
        first = min(pairs, key=rank.get)
        merged, i = [], 0
        while i < len(parts):
            both = tuple(parts[i : i + 2]) == first
            merged.append("".join(first) if both else parts[i])
            i += 1 + both
        parts = merged
    return [ids[part] for part in parts]


def oracle(path, text: str) -> list[int]:
    """Ids of a text, word by word."""
    text = unicodedata.normalize("NFC", text).lower()
    return [i for word in words(text) for i in ids_of(path, word)]


CAPTIONS = {"caption", "captions", "figure_caption", "names", "keywords", "sentence", "question"}


def strings(value, among: bool):
    """Texts of a record that lie below one of the names CAPTIONS."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from strings(inner, among or name in CAPTIONS)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner, among)
    elif isinstance(value, str) and among:
        yield value


def shared_captions() -> list[str]:
    """Every caption, question, sentence and name of the shared data sets, once."""
    found = set()
    for file in sorted(shared_path("data").glob("*.tar")):
        with tarfile.open(file) as tar:
            for member in tar:
                if member.name.endswith((".txt", ".json")):
                    content = tar.extractfile(member).read().decode()
                    if member.name.endswith(".txt"):
                        found.add(content)
                    else:
                        found |= set(strings(json.loads(content), False))
    return sorted(found)


def test_every_shared_caption_has_the_ids_of_clips_algorithm(tmp_path):
    captions = shared_captions()
    assert len(captions) > 10_000
    path = tmp_path / "tokenizer.json"
    path.write_bytes(train_clip(captions, 5000))
    tokenizer = load_tokenizer(str(path))
    rows = tokenizer.encode_batch(captions, 77)
    for text, row in zip(captions, rows.tolist(), strict=True):
        wanted = [tokenizer.start_id, *oracle(path, text)[:75], tokenizer.end_id]
        assert row == wanted + [tokenizer.end_id] * (77 - len(wanted)), text


def test_ids_are_those_of_clips_algorithm(clip):
    tokenizer = load_tokenizer(str(clip))
    for text in TEXTS + ODD:
        row = tokenizer.encode_batch([text], 77)[0]
        wanted = [tokenizer.start_id, *oracle(clip, text)[:75], tokenizer.end_id]
        assert row.tolist() == wanted + [tokenizer.end_id] * (77 - len(wanted)), text
    assert tokenizer.decode(tokenizer.encode_batch(["A red bus"], 77)[0]) == "a red bus"


def test_a_vocabulary_has_openais_form_and_order(clip):
    saved = json.loads(clip.read_text())
    tokens = sorted(saved["model"]["vocab"], key=saved["model"]["vocab"].get)
    assert tokens[:3] == ["!", '"', "#"] and tokens[256:258] == ["!</w>", '"</w>']
    assert all(token.endswith("</w>") for token in tokens[256:512])
    assert tokens[512:-2] == ["".join(pair) for pair in saved["model"]["merges"]]
    assert tokens[-2:] == ["<|startoftext|>", "<|endoftext|>"]
    tokenizer = FileTokenizer(str(clip))
    special = (tokenizer.start_id, tokenizer.end_id, tokenizer.pad_id, tokenizer.vocab_size)
    n = len(tokens)
    assert special == (n - 2, n - 1, n - 1, n)
    # Common words are one token.
    assert len(tokenizer.pieces("photo")) == 1


def test_the_same_texts_give_the_same_vocabulary(clip):
    # In a process of its own, since hashes differ from one to the next.
    program = (
        "import sys, json; from multimodal.data.tokenizers.train import train_clip;"
        "sys.stdout.buffer.write(train_clip(json.loads(sys.argv[1]), 700))"
    )
    arguments = [sys.executable, "-c", program, json.dumps(TEXTS * 2)]
    assert subprocess.run(arguments, capture_output=True, check=True).stdout == clip.read_bytes()


def test_the_size_is_kept_and_what_is_too_small_is_refused():
    assert json.loads(train_clip(TEXTS * 2, 530))["added_tokens"][-1]["id"] == 529
    with pytest.raises(UserError, match="vocab_size=513: the bytes, start and end are 514 tokens"):
        train_clip(TEXTS, 513)


def test_a_vocabulary_of_clips_size_fits_clip(tmp_path):
    """49,152 tokens below start and end, as OpenAI's: its ids are those that the zoo expects."""
    letters = sorted(set(map(chr, [*range(33, 127), *range(161, 173), *range(174, 324)])))
    letters += [letter + "</w>" for letter in letters]
    pairs = [(a, b) for a in letters[:256] for b in letters[:256]][: 49408 - 514]
    path = tmp_path / "tokenizer.json"
    path.write_bytes(
        clip_file(letters + [a + b for a, b in pairs] + ["<|startoftext|>", "<|endoftext|>"], pairs)
    )
    tokenizer = load_tokenizer(str(path))
    assert (tokenizer.start_id, tokenizer.end_id, tokenizer.pad_id) == (49406, 49407, 49407)
    model = from_dict(DualEncoder, zoo.clip("ViT-B-32")["model"])
    experiment._check_vocabulary(model, tokenizer)
    text = model.towers["text"]
    assert (text.end_id, text.pad_id) == (tokenizer.end_id, tokenizer.pad_id)


def test_sentencepiece_as_siglip_uses_it(tmp_path):
    lower = [text.lower() for text in TEXTS * 20]
    (tmp_path / "tokenizer.model").write_bytes(train_siglip(lower, 60))
    for name in (tmp_path, tmp_path / "tokenizer.model"):
        tokenizer = load_tokenizer(str(name), pad_id=1)
        special = (tokenizer.pad_id, tokenizer.start_id, tokenizer.end_id, tokenizer.mask_id)
        assert special == (1, -1, 1, -1)
        assert tokenizer.vocab_size == 60
    ids = tokenizer.encode_batch(["a photo", "", "a photo " * 99], 16, add_start=False)
    assert ids.dtype == np.int32 and (ids[1] == 1).all()
    assert (ids[0, -1], ids[2, -1]) == (1, 1) and (ids[2, :-1] != 1).all()
    assert tokenizer.decode(ids[0]) == "a photo"
    assert "".join(token for _, token in tokenizer.pieces("a photo")) == "▁a▁photo"
    assert [i for i, _ in tokenizer.pieces("a photo")] == [i for i in ids[0] if i != 1]
    with pytest.raises(UserError, match="no start token; set it to False"):
        tokenizer.encode_batch(["a"], 4)
    (tmp_path / "most.model").write_bytes(train_siglip(lower, 100_000))
    assert 60 < load_tokenizer(str(tmp_path / "most.model")).vocab_size < 200
    with pytest.raises(UserError, match="SentencePiece: "):
        train_siglip([], 100)


def test_without_sentencepiece_one_line_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "a.model").write_bytes(b"anything")
    with pytest.raises(UserError, match="cannot read .*a.model"):
        load_tokenizer(str(tmp_path / "a.model"))
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(UserError, match=r"pip install 'multimodal\[sentencepiece\]'"):
        load_tokenizer(str(tmp_path / "a.model"))
    with pytest.raises(UserError, match=r"pip install 'multimodal\[sentencepiece\]'"):
        train_siglip(TEXTS, 100)


def test_the_command_trains_and_shows(tmp_path):
    (tmp_path / "rows.jsonl").write_text(
        "\n".join(json.dumps({"caption": text}) for text in TEXTS * 2)
    )
    training = start(
        "tokenize", "train", f"--data={tmp_path / 'rows.jsonl'}", "--vocab_size=600",
        f"--out={tmp_path / 'made'}",
    )  # fmt: skip
    wrong = start("tokenize", "trian", "--out=x")
    (tmp_path / "empty.txt").write_text("\n \n")
    empty = start("tokenize", "train", f"--data={tmp_path / 'empty.txt'}", f"--out={tmp_path}")
    code, out, err = finish(training)
    assert code == 0, err
    assert "600 tokens from 10 texts" in out
    wanted = train_clip([text.lower() for text in TEXTS * 2], 600)
    assert (tmp_path / "made" / "tokenizer.json").read_bytes() == wanted
    code, _, err = finish(empty)
    assert (code, err.count("\n")) == (2, 1) and "holds no texts" in err
    shown = start("tokenize", "show", f"--tokenizer={tmp_path / 'made'}", "--text=a photo")
    assert finish(wrong)[::2] == (
        2,
        "error: tokenize trian: no such command; did you mean 'train'?\n",
    )
    code, out, err = finish(shown)
    assert code == 0, err
    assert "a</w>" in out and "end_id 599" in out


def test_nothing_is_learnt_of_what_is_held_out(tmp_path):
    """Each record is on the side that training and evaluation see it on."""
    rows = [{"text": f"word{i}", "tags": [f"tag{i}"], "album": f"a{i // 4}"} for i in range(80)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    held_out = {row["text"] for row in rows if in_test(row["album"], 0.3, 5)}
    assert 0 < len(held_out) < 80
    learnt = set(texts_of(str(path), holdout="album:0.3:5"))
    assert learnt == {row["text"] for row in rows} - held_out
    both = set(texts_of(str(path), ["text", "tags"], "album:0.3:5"))
    assert both == learnt | {word.replace("word", "tag") for word in learnt}
    (tmp_path / "rows.txt").write_text("a line")
    with pytest.raises(UserError, match="--holdout=key:0.3: lines of .* have no fields"):
        next(texts_of(str(tmp_path / "rows.txt"), holdout="key:0.3"))
