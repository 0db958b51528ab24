"""CLIP ViT-L/14 on 400 million pairs (Radford et al. 2021, arXiv:2103.00020), for v5e:16x16.

--config=configs/clip_l14.py:data=PATH,test=PATH,tokenizer=FILE, with the `tokenizer.json` that CLIP
was published with. Their 400 million pairs are not public; LAION-400M has as many.
`res=336,start=RUN` goes on from RUN for an epoch at 336 pixels. Theirs resized the positions; here
those of the picture begin anew.
"""

from multimodal import zoo
from multimodal.pretraining import OPTIONS, clip_optimizer, go_on, on_pairs
from multimodal.recipe import parse_arg, resolve


def get_config(arg: str = ""):
    arg = parse_arg(
        arg, **OPTIONS, tokenizer="clip/tokenizer.json", batch=32768, res=(224, 336), start=""
    )
    large = arg.res == 336
    return resolve(
        on_pairs(
            zoo.clip("ViT-L-14-336" if large else "ViT-L-14", keep="inputs"),
            arg,
            name="clip_l14_336" if large else "clip_l14",
            steps=(1 if large else 32) * 400_000_000 // arg.batch,  # epochs: section 2
            batch_size=arg.batch,
            data={"augment": ({"op": "random_crop"},)},  # and nothing else: section 2
            objectives={"contrastive": {"kind": "contrastive"}},
            optimizer=clip_optimizer(2e-5 if large else 4e-4, warmup_steps=2000),  # appendix F
            mesh={"data": -1, "fsdp": 16},
            start=go_on(arg.start, "image") if arg.start else None,
        )
    )
