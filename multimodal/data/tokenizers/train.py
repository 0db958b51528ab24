"""A vocabulary from one's own texts, in the form of CLIP's or of SigLIP's."""

import io
import json
from collections.abc import Iterable

from multimodal.errors import UserError

START, END, WORD_END = "<|startoftext|>", "<|endoftext|>", "</w>"
# What CLIP takes for a word (Radford et al. 2021): English endings, letters, one digit, the rest.
_WORD = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def train_clip(texts: Iterable[str], vocab_size: int) -> bytes:
    """The `tokenizer.json` of a byte-level BPE as CLIP's, with at most `vocab_size` tokens.

    Lower case, single spaces, words that end in `</w>`; ids in OpenAI's order: the 256 bytes, the
    same at the end of a word, the merges, start and end. So nothing is ever unknown. Texts that do
    not have so many pairs to merge give fewer tokens. Raises UserError when `vocab_size` is
    too small for the bytes.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    letters = alphabet + [letter + WORD_END for letter in alphabet]
    if vocab_size < len(letters) + 2:
        raise UserError(
            f"vocab_size={vocab_size}: the bytes, start and end are {len(letters) + 2} tokens"
        )
    backend = Tokenizer(models.BPE(end_of_word_suffix=WORD_END))
    backend.normalizer, backend.pre_tokenizer = _clip_normalizer(), _clip_words()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 2,
        min_frequency=2,
        show_progress=False,
        initial_alphabet=alphabet,
        # Numbered in the order in which it met them, they would decide between equal pairs.
        special_tokens=letters[len(alphabet) :],
        end_of_word_suffix=WORD_END,
    )
    backend.train_from_iterator(texts, trainer)
    pairs = [tuple(pair) for pair in json.loads(backend.to_str())["model"]["merges"]]
    return clip_file(letters + ["".join(pair) for pair in pairs] + [START, END], pairs)


def clip_file(tokens: list[str], merges: list[tuple[str, str]]) -> bytes:
    """The `tokenizer.json` of these tokens, the last two of which are start and end."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, processors

    ids = {token: i for i, token in enumerate(tokens)}
    backend = Tokenizer(
        models.BPE(
            ids, merges, unk_token=END, continuing_subword_prefix="", end_of_word_suffix=WORD_END
        )
    )
    backend.normalizer, backend.pre_tokenizer = _clip_normalizer(), _clip_words()
    backend.decoder = decoders.Sequence(
        [decoders.ByteLevel(), decoders.Replace(WORD_END, " "), decoders.Strip(" ", 0, 1)]
    )
    backend.post_processor = processors.RobertaProcessing(
        (END, ids[END]), (START, ids[START]), trim_offsets=False, add_prefix_space=False
    )
    backend.add_special_tokens(
        [AddedToken(START, normalized=True), AddedToken(END, normalized=False)]
    )
    return backend.to_str(pretty=True).encode()


def train_siglip(texts: Iterable[str], vocab_size: int) -> bytes:
    """The SentencePiece `.model` (unigram) of T5's form, as SigLIP's: pad 0, end 1, unknown 2.

    Texts that do not have so many pieces give fewer. Raises UserError when the extra is missing or
    the texts are too few.
    """
    try:
        from sentencepiece import SentencePieceTrainer
    except ImportError:
        raise UserError(
            "SentencePiece is missing; install it with pip install 'multimodal[sentencepiece]'"
        ) from None
    model = io.BytesIO()
    ids = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
    try:
        SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            vocab_size=vocab_size,
            hard_vocab_limit=False,
            minloglevel=2,
            **ids,
        )
    except RuntimeError as error:
        raise UserError(f"SentencePiece: {' '.join(str(error).split())}") from None
    return model.getvalue()


def _clip_normalizer():
    from tokenizers import Regex, normalizers

    return normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )


def _clip_words():
    from tokenizers import Regex, pre_tokenizers

    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORD), behavior="removed", invert=True),
            # One word is never two of GPT-2's, whose pattern would only cost time.
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
