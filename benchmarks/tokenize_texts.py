"""Captions a second that one process turns into ids, in batches as the trainer does:
python benchmarks/tokenize_texts.py --data=PATH [--tokenizer=FILE ...] [--vocab_size=N]

PATH is what `multimodal.tokenize` takes. Without --tokenizer: bytes, and vocabularies of CLIP's and
SigLIP's form trained on these texts, CLIP's with BPE dropout too. Printed per second of the clock
and per second of all cores.
"""

import argparse
import itertools
import tempfile
import time
from pathlib import Path

from multimodal.data.tokenizers import BpeDropout, cleaned, load_tokenizer, tokenize
from multimodal.data.tokenizers.train import train_clip, train_siglip
from multimodal.errors import UserError
from multimodal.preprocessing import Preprocessing
from multimodal.tokenize import texts_of

BATCH, SECONDS = 1024, 3.0
CLIP = Preprocessing(length=77)
SIGLIP = Preprocessing(length=64, canonicalize=True, add_start=False, pad_id=1)


def measure(
    name: str, texts: list[str], preprocessing: Preprocessing, bpe_dropout: float = 0.0
) -> None:
    """Prints the rates of one tokenizer over all texts, again and again."""
    tokenizer = load_tokenizer(preprocessing.tokenizer, preprocessing.pad_id)
    dropout = BpeDropout(tokenizer, bpe_dropout, seed=0) if bpe_dropout else None
    batches = [texts[i : i + BATCH] for i in range(0, len(texts), BATCH)]
    done, clock, cores = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - clock < SECONDS:
        for batch in batches:
            if dropout is None:
                tokenize(batch, preprocessing, tokenizer)
            else:
                words = cleaned(batch, preprocessing)
                dropout.encode_batch(words, range(len(batch)), preprocessing.length)
            done += len(batch)
    clock, cores = time.perf_counter() - clock, time.process_time() - cores
    print(
        f"{name:<10} {tokenizer.vocab_size:>7} tokens  {done / clock:>10,.0f} captions/s  "
        f"{done / cores:>10,.0f} a core"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--tokenizer", action="append", default=[])
    parser.add_argument("--vocab_size", type=int, default=49408)
    given = parser.parse_args()
    try:
        texts = list(itertools.islice(texts_of(given.data), 100_000))
    except UserError as error:
        parser.error(str(error))
    print(f"{len(texts):,} captions, {sum(map(len, texts)) / len(texts):.0f} characters on average")
    for file in given.tokenizer:
        measure(Path(file).name, texts, Preprocessing(length=77, tokenizer=file, add_start=False))
    if given.tokenizer:
        return
    measure("bytes", texts, CLIP)
    with tempfile.TemporaryDirectory() as folder:
        clip, siglip = Path(folder) / "tokenizer.json", Path(folder) / "tokenizer.model"
        clip.write_bytes(train_clip(cleaned(texts, CLIP), given.vocab_size))
        own = Preprocessing(length=77, tokenizer=str(clip))
        measure("CLIP", texts, own)
        measure("dropout", texts, own, bpe_dropout=0.1)
        siglip.write_bytes(train_siglip(cleaned(texts, SIGLIP), min(given.vocab_size, 32000)))
        measure("SigLIP", texts, Preprocessing(**vars(SIGLIP) | {"tokenizer": str(siglip)}))


if __name__ == "__main__":
    main()
