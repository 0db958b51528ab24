"""SigLIP So400m/14 (Zhai et al. 2023; Alabdulmohsin et al. 2023), for v5e:16x16.

--config=configs/siglip_so400m.py:data=PATH,test=PATH,tokenizer=FILE, with SentencePiece's model of
C4 in 32,000 pieces. The authors' pairs, WebLI, are not public; the default is LAION-400M.
"""

from multimodal import zoo
from multimodal.pretraining import OPTIONS, on_pairs, siglip_optimizer
from multimodal.recipe import parse_arg, resolve


def get_config(arg: str = ""):
    arg = parse_arg(arg, **OPTIONS, tokenizer="c4_en/sentencepiece.model", batch=32768)
    return resolve(
        on_pairs(
            zoo.siglip("SO400M-14", keep="inputs"),
            arg,
            name="siglip_so400m",
            steps=40_000_000_000 // arg.batch,  # pairs seen by SigLIP 2; that of 2023 names none
            batch_size=arg.batch,  # the best one: abstract
            objectives={"contrastive": {"kind": "contrastive", "loss": "sigmoid"}},
            optimizer=siglip_optimizer("adafactor"),
            mesh={"data": -1, "fsdp": 16},
        )
    )
