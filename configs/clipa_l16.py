"""CLIPA ViT-L/16, small pictures and short texts first, then a few steps at full size (Li et al.
2023, arXiv:2305.07017), for v5e:8x8.

--config=configs/clipa_l16.py:data=PATH,test=PATH,tokenizer=FILE, then `stage=finetune,start=RUN`.
Theirs, of 36 patches and 8 tokens on LAION-400M, reached 57.9 % zero-shot on ImageNet, then 69.3 %.
Of a long text they kept the nouns first; here its beginning stays, and so 16 tokens, as in their
run of 16 patches. Left out is the shift of hues, and positions begin anew in the second stage,
where theirs were resized.
"""

from multimodal import zoo
from multimodal.pretraining import OPTIONS, clip_optimizer, go_on, on_pairs
from multimodal.recipe import parse_arg, resolve


def get_config(arg: str = ""):
    arg = parse_arg(
        arg, **OPTIONS, tokenizer="clip/tokenizer.json", stage=("pretrain", "finetune"), start=""
    )
    # docs/script_examples/clipa/vit_l16/i37_t8_*.sh of mlfoundations/open_clip: 8 GPUs.
    size, length, batch, rate, warmup, samples = {
        "pretrain": (96, 16, 8 * 4096, 1.024e-3, 1563, 6 * 400_000_000),
        "finetune": (224, 32, 8 * 896, 2.24e-5, 3571, 131_072_000),
    }[arg.stage]
    named = zoo.clip("ViT-L-16", keep="inputs")
    model, preprocessing = named["model"], named["preprocessing"]
    # The mean over the patches; a class token would take no part in it.
    model["towers"]["image"] |= {"image_size": size, "class_token": False, "pooler": "mean"}
    model["towers"]["text"] |= {"length": length}
    preprocessing |= {"image_size": size, "length": length}
    return resolve(
        on_pairs(
            named,
            arg,
            name=f"clipa_l16_{arg.stage}",
            steps=samples // batch,
            batch_size=batch,
            data={
                "augment": (
                    {"op": "random_resized_crop", "scale": (0.4, 1.0)},
                    {
                        "op": "color_jitter",
                        "brightness": 0.32,
                        "contrast": 0.32,
                        "saturation": 0.32,
                        "chance": 0.8,
                    },
                    {"op": "random_grayscale", "chance": 0.2},
                )
            },
            objectives={"contrastive": {"kind": "contrastive"}},
            optimizer=clip_optimizer(rate, warmup, beta2=0.95),
            mesh={"data": -1, "fsdp": 8},
            start=go_on(arg.start, "image", "text") if arg.start else None,
        )
    )
