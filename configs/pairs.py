"""Dual encoder on one's own pictures and captions, in WebDataset tars:
--config=configs/pairs.py:tar=photos-{000..127}.tar,size=S,res=224,patch=16

A relative path counts from the current folder. Records are `KEY.jpg` (or png, webp) beside
`KEY.txt`. `group` names what keeps a record's look-alikes together (`json.album`, say), so that
near duplicates never lie on both sides of the split; without it each record is held out or kept on
its own.
"""

from pathlib import Path

from multimodal.recipe import parse_arg, resolve
from multimodal.zoo import transformer


def get_config(arg: str = ""):
    arg = parse_arg(
        arg,
        tar="pairs.tar",
        image="jpg|jpeg|png|webp",
        text="txt",
        group="key",
        held_out=0.1,
        size="Ti",
        res=64,
        patch=8,
        length=64,
        embed=256,
        steps=2000,
        batch=256,
        loss=("softmax", "sigmoid"),
        workers=2,
    )

    # Absolute, since a run may go on from another folder, and others are looked for in `data_dir`.
    shards = [str(Path(shard).expanduser().absolute()) for shard in arg.tar.split("::")]

    def pairs(keep: str, **options):
        return {
            "source": {"kind": "tar", "path": "::".join(shards)},
            "fields": {"image": arg.image, "text": arg.text},
            "holdout": {"by": arg.group, "share": arg.held_out, "keep": keep},
            "workers": 0,
        } | options

    sigmoid = arg.loss == "sigmoid"
    crop = {"op": "random_resized_crop", "scale": (0.6, 1.0)}
    return resolve(
        {
            "name": "pairs",
            "steps": arg.steps,
            "batch_size": arg.batch,
            "preprocessing": {"image_size": arg.res, "length": arg.length},
            "model": {
                "kind": "dual_encoder",
                "embed": arg.embed,
                "logit_scale_init": 2.3025851 if sigmoid else 2.6592600,
                "logit_bias_init": -10.0 if sigmoid else None,
                "towers": {
                    "image": {
                        "kind": "image",
                        "image_size": arg.res,
                        "patch_size": arg.patch,
                        "projection": "linear",
                        "transformer": transformer(arg.size),
                    },
                    "text": {
                        "kind": "text",
                        "vocab_size": 260,
                        "length": arg.length,
                        "pooler": "mean",
                        "mask_padding": True,
                        "projection": "linear",
                        "transformer": transformer(arg.size),
                    },
                },
            },
            "tasks": {
                "pairs": {
                    "data": pairs("train", augment=(crop,), workers=arg.workers),
                    "objectives": {"contrastive": {"kind": "contrastive", "loss": arg.loss}},
                },
            },
            "optimizer": {
                "learning_rate": 1e-3,
                "warmup_steps": arg.steps // 20,
                "beta2": 0.98,
                "weight_decay": 0.1,
            },
            "evaluators": {"held_out": {"kind": "retrieval", "data": pairs("test"), "every": 500}},
        }
    )
