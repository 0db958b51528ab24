"""CLIP ViT-B/16 on 400 million pairs (Radford et al. 2021, arXiv:2103.00020), for v5e:16x16.

--config=configs/clip_b16.py:data=PATH,test=PATH,tokenizer=FILE, with the `tokenizer.json` that CLIP
was published with. Their 400 million pairs are not public; LAION-400M has as many.
"""

from multimodal import zoo
from multimodal.pretraining import OPTIONS, clip_optimizer, on_pairs
from multimodal.recipe import parse_arg, resolve


def get_config(arg: str = ""):
    arg = parse_arg(arg, **OPTIONS, tokenizer="clip/tokenizer.json", batch=32768)
    return resolve(
        on_pairs(
            zoo.clip("ViT-B-16", keep="inputs"),
            arg,
            name="clip_b16",
            steps=32 * 400_000_000 // arg.batch,  # 32 epochs: section 2
            batch_size=arg.batch,
            data={"augment": ({"op": "random_crop"},)},  # and nothing else: section 2
            objectives={"contrastive": {"kind": "contrastive"}},
            optimizer=clip_optimizer(5e-4, warmup_steps=2000),  # appendix F
            mesh={"data": -1, "fsdp": 16},
        )
    )
