"""Tokenizers as transformers reads them, with the tokenizers library alone."""

import dataclasses
import json

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from multimodal.data.tokenizers import load_tokenizer, tokenize
from multimodal.data.tokenizers.train import train_siglip
from multimodal.errors import UserError
from multimodal.interop.tokenizer_files import tokenizer_files
from multimodal.preprocessing import Preprocessing
from tests.interop.models import CAPTIONS, clip_tokenizer

TEXTS = ["A photo of a CAT!", "naïve, 3 buses", "x " * 40, "", "東京 🙂"]


def gemma_tokenizer(folder):
    """A vocabulary of Gemma's form: bytes where there is no piece, spaces as underscores."""
    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    pieces += [f"<0x{i:02X}>" for i in range(256)] + ["▁", *"abcdefghijklmnopqrstuvwxyz", "at"]
    backend = Tokenizer(
        models.BPE(
            {piece: i for i, piece in enumerate(pieces)},
            [("a", "t")],
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    backend.add_special_tokens([AddedToken(p, normalized=False) for p in pieces[:5]])
    path = folder / "gemma.json"
    path.write_text(backend.to_str())
    return path


def written(layout, name, **settings):
    """The files, and what they and we make of the texts."""
    p = Preprocessing(tokenizer=str(name), length=12, **settings)
    tokenizer = load_tokenizer(p.tokenizer, p.pad_id)
    files = tokenizer_files(f"huggingface_{layout}", tokenizer, p)
    backend = Tokenizer.from_str(files["tokenizer.json"].decode())
    backend.enable_truncation(p.length)
    pad = json.loads(files["tokenizer_config.json"])["pad_token"]
    backend.enable_padding(length=p.length, pad_id=backend.token_to_id(pad), pad_token=pad)
    theirs = np.array([one.ids for one in backend.encode_batch(TEXTS)])
    return files, theirs, tokenize(TEXTS, p, tokenizer)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"lowercase": False},
        {"canonicalize": True},
        {"add_start": False},
        {"add_start": False, "add_end": False, "canonicalize": True, "pad_id": 5},
    ],
    ids=str,
)
@pytest.mark.parametrize("form", ["bytes", "clip"])
def test_ids_are_those_of_training(tmp_path, form, settings):
    name = "bytes" if form == "bytes" else clip_tokenizer(tmp_path)
    _, theirs, ours = written("clip", name, **settings)
    np.testing.assert_array_equal(theirs, ours)


def test_each_form_has_the_class_that_reads_it(tmp_path):
    def told(layout, name, **settings):
        files, *_ = written(layout, name, **settings)
        return json.loads(files["tokenizer_config.json"])

    clip = told("clip", clip_tokenizer(tmp_path))
    assert clip["tokenizer_class"] == "CLIPTokenizer"
    assert (clip["bos_token"], clip["pad_token"]) == ("<|startoftext|>", "<|endoftext|>")
    assert clip["model_max_length"] == 12 and "attention_mask" in clip["model_input_names"]
    siglip = told("siglip", clip_tokenizer(tmp_path), canonicalize=True, add_start=False)
    assert siglip["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert siglip["model_input_names"] == ["input_ids"]
    assert told("clip", "bytes")["tokenizer_class"] == "PreTrainedTokenizerFast"
    flexible = told("siglip2", gemma_tokenizer(tmp_path), add_start=False, add_end=False)
    assert flexible["tokenizer_class"] == "Siglip2Tokenizer"


def test_a_siglip2_needs_a_vocabulary_of_gemmas_form(tmp_path):
    with pytest.raises(UserError, match="preprocessing.tokenizer=.*as Gemma's"):
        written("siglip2", clip_tokenizer(tmp_path))
    with pytest.raises(UserError, match="in lower case"):
        written("siglip2", gemma_tokenizer(tmp_path), lowercase=False)


def test_sentencepiece_goes_to_siglips_own_class(tmp_path):
    path = tmp_path / "tokenizer.model"
    path.write_bytes(train_siglip(CAPTIONS * 20, 60))
    p = Preprocessing(tokenizer=str(path), length=12, canonicalize=True, add_start=False, pad_id=1)
    tokenizer = load_tokenizer(p.tokenizer, p.pad_id)
    files = tokenizer_files("huggingface_siglip", tokenizer, p)
    assert files["spiece.model"] == path.read_bytes()
    told = json.loads(files["tokenizer_config.json"])
    assert (told["tokenizer_class"], told["pad_token"]) == ("SiglipTokenizer", "</s>")
    with pytest.raises(UserError, match="preprocessing.canonicalize=False: SiglipTokenizer"):
        other = dataclasses.replace(p, canonicalize=False)
        tokenizer_files("huggingface_siglip", tokenizer, other)


def test_a_file_that_would_give_other_ids_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr("multimodal.interop.tokenizer_files._with_preprocessing", lambda t, *_: t)
    with pytest.raises(UserError, match="would read .A Photo,  of TWO.* not exported"):
        written("clip", "bytes", add_start=False, add_end=False)
