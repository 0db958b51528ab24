"""SigLIP with SigLIP 2's largest image tower, g-opt/16 at 256 pixels (Tschannen et al. 2025,
arXiv:2502.14786), 1.5 billion parameters with a text tower of size L, for v5e:16x16.

--config=configs/siglip_gopt16.py:data=PATH,test=PATH,tokenizer=FILE[,text=So400m], with
SentencePiece's model of C4 in 32,000 pieces; text=So400m is the text tower of the paper. Parameters
and optimiser state are spread over all devices and gathered layer by layer: 1.5 billion of them in
one piece would leave no room for activations.
"""

from multimodal import zoo
from multimodal.pretraining import OPTIONS, on_pairs, siglip_optimizer
from multimodal.recipe import parse_arg, resolve


def get_config(arg: str = ""):
    options = {"tokenizer": "c4_en/sentencepiece.model", "batch": 32768, "text": ("L", "So400m")}
    arg = parse_arg(arg, **OPTIONS, **options)
    contrast = {"kind": "contrastive", "loss": "sigmoid", "dtype": "bfloat16"}
    return resolve(
        on_pairs(
            zoo.siglip("g-opt-16-256", arg.text, keep="inputs"),
            arg,
            name="siglip_gopt16",
            steps=40_000_000_000 // arg.batch,  # pairs that SigLIP 2 has seen
            batch_size=arg.batch,
            objectives={"contrastive": contrast},
            optimizer=siglip_optimizer("adamw"),
            mesh={"data": -1, "fsdp": 16},
            gather="layer",
            reduce="bfloat16",
        )
    )
