"""Our tokenizer, with what is done to a text before it, as the files that transformers reads.

Lower case, punctuation and the tokens at the start and the end belong to `Preprocessing` here, and
to tokenizer.json there.
"""

import json
import string
from typing import Any

import numpy as np

from multimodal.data.tokenizers import ByteTokenizer, SentencePieceTokenizer, Tokenizer, tokenize
from multimodal.data.tokenizers.file import added_around
from multimodal.data.tokenizers.train import END, START, WORD_END, clip_file
from multimodal.errors import UserError
from multimodal.preprocessing import Preprocessing

Table = dict[str, Any]
_TRIED = (
    "a photo of a cat",
    "A Photo,  of TWO Cats: the cat's, isn't it?",
    "Zürich 東京 Ærø 1984 \N{GRINNING FACE}",
    "x " * 600,
    "",
)


def tokenizer_files(
    layout: str, tokenizer: Tokenizer, preprocessing: Preprocessing
) -> dict[str, bytes]:
    """tokenizer.json (or SigLIP's spiece.model), tokenizer_config.json and
    special_tokens_map.json, by name.

    Raises UserError where the files would give other ids than training had.
    """
    p = preprocessing
    if isinstance(tokenizer, SentencePieceTokenizer):
        return _siglip_files(tokenizer, p)
    content = _bytes_json() if isinstance(tokenizer, ByteTokenizer) else tokenizer.file[1]
    table = _with_preprocessing(json.loads(content), tokenizer, p)
    if layout == "huggingface_siglip2" and not (_is_gemma(table) and p.lowercase):
        raise UserError(
            f"preprocessing.tokenizer={p.tokenizer}: transformers reads the tokenizer of every "
            "Siglip2Model as Gemma's, in lower case; this one is of another form"
        )
    content = json.dumps(table, ensure_ascii=False, indent=2).encode()
    _check_ids(content, tokenizer, p)
    special = _special(table, tokenizer)
    names = ["input_ids"]
    if layout == "huggingface_bert":
        names.append("token_type_ids")
    if "siglip" not in layout:  # SigLIP looks at its padding
        names.append("attention_mask")
    kind = "CLIPTokenizer" if _is_clip(table) else "PreTrainedTokenizerFast"
    settings = {
        "tokenizer_class": "Siglip2Tokenizer" if layout == "huggingface_siglip2" else kind,
        "model_max_length": p.length,
        "padding_side": "right",
        "truncation_side": "right",
        "clean_up_tokenization_spaces": False,
        "model_input_names": names,
        **special,
    }
    return {"tokenizer.json": content} | _json_files(settings, special)


def special_ids(tokenizer: Tokenizer) -> dict[str, int | None]:
    """The same for config.json; None for a token that the vocabulary does not have."""
    ids = {"bos": tokenizer.start_id, "eos": tokenizer.end_id, "pad": tokenizer.pad_id}
    return {f"{name}_token_id": None if i < 0 else i for name, i in ids.items()}


def _siglip_files(tokenizer: SentencePieceTokenizer, p: Preprocessing) -> dict[str, bytes]:
    wanted = {"lowercase": True, "canonicalize": True, "add_start": False, "add_end": True}
    for name, value in wanted.items():
        if getattr(p, name) != value:
            raise UserError(
                f"preprocessing.{name}={getattr(p, name)}: SiglipTokenizer of transformers, which "
                f"reads a SentencePiece .model, has {value}, so the model is not exported"
            )
    piece = dict(enumerate(_pieces(tokenizer)))
    special = {
        "eos_token": piece[tokenizer.end_id],
        "unk_token": piece[tokenizer.unknown_id],
        "pad_token": piece[tokenizer.pad_id],
    }
    settings = {
        "tokenizer_class": "SiglipTokenizer",
        "do_lower_case": True,
        "model_max_length": p.length,
        "padding_side": "right",
        "model_input_names": ["input_ids"],
        **special,
    }
    return {"spiece.model": tokenizer.file[1]} | _json_files(settings, special)


def _pieces(tokenizer: SentencePieceTokenizer) -> list[str]:
    from sentencepiece import SentencePieceProcessor

    backend = SentencePieceProcessor(model_proto=tokenizer.file[1])
    return [backend.id_to_piece(i) for i in range(backend.get_piece_size())]


def _json_files(settings: Table, special: Table) -> dict[str, bytes]:
    named = {"tokenizer_config.json": settings, "special_tokens_map.json": special}
    return {name: json.dumps(t, indent=2).encode() + b"\n" for name, t in named.items()}


def _with_preprocessing(table: Table, tokenizer: Tokenizer, p: Preprocessing) -> Table:
    """A tokenizer.json that does by itself what `p` says."""
    table = table | {"padding": None, "truncation": None}
    before: list[Table] = []
    if p.lowercase and not _has(table["normalizer"], "Lowercase"):
        before.append({"type": "Lowercase"})
    if p.canonicalize:
        marks = "[" + "".join(f"\\{mark}" for mark in string.punctuation) + "]"
        before += [
            {"type": "Replace", "pattern": {"Regex": marks}, "content": ""},
            {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
            {"type": "Strip", "strip_left": True, "strip_right": True},
        ]
    if before:
        after = [table["normalizer"]] if table["normalizer"] else []
        table["normalizer"] = {"type": "Sequence", "normalizers": before + after}
    start, end = (token >= 0 for token in added_around(table["post_processor"]))
    if (start, end) != (p.add_start, p.add_end):
        table["post_processor"] = _template(table, tokenizer, p.add_start, p.add_end)
    return table


def _template(table: Table, tokenizer: Tokenizer, start: bool, end: bool) -> Table:
    tokens = _tokens(table)
    before = [tokens[tokenizer.start_id]] if start else []
    after = [tokens[tokenizer.end_id]] if end else []

    def special(names: list[str]) -> list[Table]:
        return [{"SpecialToken": {"id": name, "type_id": 0}} for name in names]

    def text(name: str) -> Table:
        return {"Sequence": {"id": name, "type_id": 0}}

    single = [*special(before), text("A"), *special(after)]
    ids = {name: i for i, name in tokens.items()}
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, text("B"), *special(after)],
        "special_tokens": {
            name: {"id": name, "ids": [ids[name]], "tokens": [name]} for name in {*before, *after}
        },
    }


def _special(table: Table, tokenizer: Tokenizer) -> dict[str, str]:
    """The names that transformers gives special tokens."""
    tokens = _tokens(table)
    roles = {
        "bos_token": tokenizer.start_id,
        "eos_token": tokenizer.end_id,
        "pad_token": tokenizer.pad_id,
        "mask_token": tokenizer.mask_id,
        "unk_token": getattr(tokenizer, "unknown_id", -1),
    }
    if tokens.get(tokenizer.start_id) == "[CLS]":  # BERT's names for the two ends
        roles["cls_token"], roles["sep_token"] = roles.pop("bos_token"), roles.pop("eos_token")
    return {name: tokens[i] for name, i in roles.items() if i in tokens}


def _tokens(table: Table) -> dict[int, str]:
    vocabulary = table["model"]["vocab"]
    if isinstance(vocabulary, list):  # of a unigram model: pairs of piece and score
        vocabulary = {piece: i for i, (piece, _) in enumerate(vocabulary)}
    added = {token["id"]: token["content"] for token in table["added_tokens"]}
    return {i: name for name, i in vocabulary.items()} | added


def _has(normalizer: Table | None, kind: str) -> bool:
    if normalizer is None:
        return False
    if normalizer["type"] == "Sequence":
        return any(_has(one, kind) for one in normalizer["normalizers"])
    return normalizer["type"] == kind or (
        normalizer["type"] == "BertNormalizer" and kind == "Lowercase" and normalizer["lowercase"]
    )


def _is_clip(table: Table) -> bool:
    """Whether transformers' CLIPTokenizer, which builds all but the vocabulary anew, gives the
    same ids: vocabularies of CLIP's form."""
    model = table["model"]
    if model.get("end_of_word_suffix") != WORD_END or START not in model["vocab"]:
        return False
    form = json.loads(clip_file([START, END], []))
    return table["normalizer"] == form["normalizer"] and _words(table) == _words(form)


def _is_gemma(table: Table) -> bool:
    """Whether Siglip2Tokenizer, which builds all but the vocabulary anew, gives the same ids."""
    model, split = table["model"], table["pre_tokenizer"] or {}
    return (
        model["type"] == "BPE"
        and model.get("byte_fallback") is model.get("fuse_unk") is True
        and _has(table["normalizer"], "Replace")
        and split.get("behavior", "MergedWithPrevious") == "MergedWithPrevious"
        and split.get("pattern", {"String": " "}) == {"String": " "}
    )


def _words(table: Table) -> list[str]:
    """Kinds of the steps that cut a text into words."""
    split = table["pre_tokenizer"] or {}
    return [one["type"] for one in split.get("pretokenizers", [split])]


def _bytes_json() -> bytes:
    """The tokenizer.json of `ByteTokenizer`: 256 letters and no merges."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from tokenizers.pre_tokenizers import ByteLevel

    offset = ByteTokenizer._offset
    special = ["<pad>", "<s>", "</s>", "<mask>"]
    letters = {}
    for byte in range(256):
        letters[_letter(byte)] = byte + offset
    backend = Tokenizer(models.BPE(letters | {t: i for i, t in enumerate(special)}, []))
    backend.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(t, normalized=False) for t in special])
    assert len(pre_tokenizers.ByteLevel.alphabet()) == len(letters)
    return backend.to_str().encode()


def _letter(byte: int) -> str:
    """GPT-2's printable stand-in for a byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    if byte in plain:
        return chr(byte)
    return chr(256 + [b for b in range(256) if b not in plain].index(byte))


def _check_ids(content: bytes, tokenizer: Tokenizer, p: Preprocessing) -> None:
    from tokenizers import Tokenizer as Backend

    backend = Backend.from_buffer(content)
    backend.enable_truncation(p.length)
    for text in _TRIED:
        ours = tokenize([text], p, tokenizer)[0]
        theirs = np.array(backend.encode(text).ids, np.int32)
        padding = ours[len(theirs) :]
        if not (
            np.array_equal(ours[: len(theirs)], theirs) and (padding == tokenizer.pad_id).all()
        ):
            raise UserError(
                f"preprocessing.tokenizer: as a tokenizer.json it would read {text[:40]!r} as "
                f"{theirs[:8].tolist()} ... and not as {ours[:8].tolist()} ..., so it is not "
                "exported"
            )
