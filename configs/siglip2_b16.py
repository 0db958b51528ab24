"""SigLIP 2 ViT-B/16 at 256 pixels (Tschannen et al. 2025, arXiv:2502.14786), for v5e:16x16.

--config=configs/siglip2_b16.py:data=PATH,test=PATH,tokenizer=FILE, with Gemma's tokenizer of
256,000 pieces. The authors' pairs, WebLI, are not public; the default is LAION-400M. Left out are
LocCa's referring expressions and grounded captions, which need boxes, and curation of the data.

`naflex=true,start=RUN` trains the model of RUN on pictures of their own aspect ratio as at the end
of the authors' schedule, at one length where they draw one of five.
"""

from multimodal import zoo
from multimodal.pretraining import OPTIONS, on_pairs, siglip_optimizer
from multimodal.recipe import parse_arg, resolve

SSL = 0.25  # of the weights below, at this size: section 2.3; L 0.5, So400m 1, g 0.5


def get_config(arg: str = ""):
    arg = parse_arg(
        arg, **OPTIONS, tokenizer="gemma/tokenizer.json", batch=32768, naflex=False, start=""
    )
    steps = 40_000_000_000 // arg.batch
    objectives = {
        "contrastive": {"kind": "contrastive", "loss": "sigmoid"},
        "captioning": {"kind": "decoder_captioning", "parallel": 0.5},
    }
    views = {
        "distillation": {"kind": "self_distillation", "weight": 1.0 * SSL, "begin": 0.8},
        "masked": {"kind": "masked_patches", "weight": 0.25 * SSL, "begin": 0.8},
    }
    optimizer = siglip_optimizer("adamw")
    start = {"checkpoint": arg.start, "accept": ("max_patches",) if arg.naflex else ()}
    if arg.naflex:
        # The last tenth of the cosine, 3.75 times as long: section 2.4.2.
        steps, views = steps * 375 // 1000, {}
        optimizer |= {"learning_rate": 2.45e-5, "warmup_steps": 0}
    return resolve(
        on_pairs(
            zoo.siglip2("B-16-256", max_patches=256 if arg.naflex else None, keep="inputs"),
            arg,
            name="siglip2_b16",
            steps=steps,
            batch_size=arg.batch,
            objectives=objectives | views,
            optimizer=optimizer,
            mesh={"data": -1, "fsdp": 16},
            ema=None if arg.naflex else 0.999,  # the teacher of the last fifth
        )
        | ({"start": start} if arg.start else {})
    )
