"""CoCa base (Yu et al. 2022, arXiv:2205.01917), 383 million parameters, for v5p:4x4x8.

--config=configs/coca_base.py:data=PATH,test=PATH,tokenizer=FILE, with a vocabulary of 64,000. The
authors' data, ALIGN and JFT-3B with labels as texts, are not public; the default is LAION-400M.
"""

from multimodal import zoo
from multimodal.pretraining import OPTIONS, on_pairs
from multimodal.recipe import parse_arg, resolve


def get_config(arg: str = ""):
    arg = parse_arg(arg, **OPTIONS, tokenizer="coca/sentencepiece.model", batch=65536, steps=500000)
    return resolve(
        on_pairs(
            zoo.coca("base", keep="inputs"),
            arg,
            name="coca_base",
            steps=arg.steps,
            batch_size=arg.batch,
            objectives={  # weights: section 4
                "contrastive": {"kind": "contrastive", "weight": 1.0},
                "captioning": {"kind": "captioning", "weight": 2.0},
            },
            optimizer={  # section 4; which decay of all and which clipping it does not say
                "name": "adafactor",
                "learning_rate": 8e-4,
                "schedule": "linear",
                "warmup_steps": arg.steps // 50,
                "beta1": 0.9,
                "beta2": 0.999,
                "weight_decay": 0.01,
            },
            mesh={"data": -1, "fsdp": 16},
        )
    )
