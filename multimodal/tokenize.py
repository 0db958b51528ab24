"""Makes vocabularies and shows what they do to a text:
python -m multimodal.tokenize train --data=PATH --vocab_size=N [--form=clip|siglip] --out=PATH
    [--field=FIELD] [--holdout=FIELD:SHARE[:SEED]]
python -m multimodal.tokenize show --tokenizer=FILE --text=TEXT

--data is a text file with a text a line, or any source of pictures and captions.
"""

import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from absl import flags

from multimodal.command import run
from multimodal.config import Data
from multimodal.data.detect import default_fields, detect, parse_holdout
from multimodal.data.pipeline import evaluation_batches
from multimodal.data.tokenizers import cleaned, load_tokenizer
from multimodal.data.tokenizers.train import train_clip, train_siglip
from multimodal.errors import UserError
from multimodal.preprocessing import Preprocessing
from multimodal.schema import nearest

# Other commands have a --data of their own.
_DATA = flags.DEFINE_string("data", None, "Texts to learn from.", allow_override=True)
_FIELD = flags.DEFINE_multi_string(
    "field", [], "The record's field with texts; by default its usual names. May be repeated."
)
_HOLDOUT = flags.DEFINE_string(
    "holdout", "", "FIELD:SHARE[:SEED] of --data to learn nothing from.", allow_override=True
)
_SIZE = flags.DEFINE_integer("vocab_size", 49408, "Tokens at most.")
_FORM = flags.DEFINE_enum("form", "clip", ("clip", "siglip"), "Byte-level BPE or SentencePiece.")
_LIMIT = flags.DEFINE_integer("limit", 10_000_000, "Texts at most.")
_OUT = flags.DEFINE_string("out", None, "File to write, or a folder for it.")
_TOKENIZER = flags.DEFINE_string("tokenizer", None, "A tokenizer.json, a .model, or bytes.")
_TEXT = flags.DEFINE_multi_string("text", [], "Text to show; may be given several times.")

# A tokenizer of each form: how texts are made equal beforehand, how it learns, how it is called.
_FORMS = {
    "clip": (Preprocessing(), train_clip, "tokenizer.json"),
    "siglip": (Preprocessing(canonicalize=True), train_siglip, "tokenizer.model"),
}


def texts_of(path: str, fields: Sequence[str] = (), holdout: str = "") -> Iterator[str]:
    """Every caption of a source but those held out, one field after the other, or every line of a
    `.txt` file that is not empty.

    Raises UserError for a path that cannot be read, or that holds no texts.
    """
    if path.endswith(".txt"):
        if holdout:
            raise UserError(f"--holdout={holdout}: lines of {path} have no fields to part them by")
        try:
            with open(Path(path).expanduser(), encoding="utf-8", errors="replace") as lines:
                yield from (line.strip() for line in lines if line.strip())
        except OSError as error:
            raise UserError(f"--data: cannot read {path}: {error.strerror}") from error
        return
    source = detect(path)
    usual = default_fields(source).get("text")
    if not fields and usual is None:
        raise UserError(f"--data: no texts found in {path}; name their field with --field")
    kept = parse_holdout(holdout, keep="train") if holdout else None
    for field in fields or (usual,):
        data = Data(source, fields={"text": field}, holdout=kept)
        for batch in evaluation_batches(data, Preprocessing(), batch_size=256):
            yield from itertools.chain.from_iterable(batch["texts"])


def train() -> None:
    """Learns a vocabulary and writes it."""
    _needed("train", data=_DATA.value, out=_OUT.value)
    preprocessing, learn, name = _FORMS[_FORM.value]
    path = Path(_OUT.value).expanduser()
    if path.suffix != Path(name).suffix:
        path /= name
    path.parent.mkdir(parents=True, exist_ok=True)
    started, seen = time.monotonic(), 0

    def texts() -> Iterator[str]:
        nonlocal seen
        for text in itertools.islice(
            texts_of(_DATA.value, _FIELD.value, _HOLDOUT.value), _LIMIT.value
        ):
            seen += 1
            yield from cleaned([text], preprocessing)

    content = learn(texts(), _SIZE.value)
    if not seen:
        raise UserError(f"--data: {_DATA.value} holds no texts")
    path.write_bytes(content)
    seconds, size = time.monotonic() - started, load_tokenizer(str(path)).vocab_size
    print(f"{path}: {size} tokens from {seen:,} texts in {seconds:.1f} s")


def show() -> None:
    """Prints the tokens of texts, one a line: id, token."""
    _needed("show", tokenizer=_TOKENIZER.value, text=_TEXT.value)
    tokenizer = load_tokenizer(_TOKENIZER.value)
    special = ("pad_id", "start_id", "end_id", "mask_id")
    told = ", ".join(f"{name} {getattr(tokenizer, name)}" for name in special)
    print(f"{tokenizer.vocab_size} tokens; {told}")
    for text in _TEXT.value:
        found = tokenizer.pieces(text)
        print(f"{text!r}: {len(found)} tokens")
        for number, token in found:
            print(f"{number:>8}  {token}")


_COMMANDS = {"train": train, "show": show}


def _needed(command: str, **given: object) -> None:
    for name, value in given.items():
        if not value:
            raise UserError(f"tokenize {command}: --{name} is missing")


def main(command: str) -> None:
    if command not in _COMMANDS:
        raise UserError(f"tokenize {command or '?'}: no such command{nearest(command, _COMMANDS)}")
    _COMMANDS[command]()


if __name__ == "__main__":
    chosen = sys.argv.pop(1) if sys.argv[1:] and not sys.argv[1].startswith("-") else ""
    run(lambda argv: main(chosen))
