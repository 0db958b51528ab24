"""Dual encoder on one's own pictures and texts, whatever holds them:
--config=configs/pairs.py:data=photos,size=S,res=224,patch=16

`data` is a folder (with a CSV, TSV or JSONL, with texts beside the pictures, or one sub-folder a
class), WebDataset tars (`photos-{000..127}.tar`), Parquet, ArrayRecord or a saved Hugging Face data
set; relative paths count from the current folder. `image` and `text` name the record's fields where
they are not called as usual; `text=class,template=a photo of a {}` makes captions of class names.
`group` names what keeps a record's look-alikes together (`json.album`, say), so that near
duplicates never lie on both sides of the split; without it each record is held out or kept on its
own.
"""

from pathlib import Path

from multimodal import config
from multimodal.data.detect import default_fields, detect
from multimodal.errors import UserError
from multimodal.recipe import parse_arg, resolve
from multimodal.schema import to_dict
from multimodal.zoo import transformer


def get_config(arg: str = ""):
    arg = parse_arg(
        arg,
        data="",
        image="",
        text="",
        template="",
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

    source, fields = _source(arg.data)
    for name in ("image", "text"):
        fields[name] = arg[name] or fields.get(name)
        if not fields[name]:
            raise UserError(
                f"data={arg.data}: no usual name of a field of {name}; say {name}=FIELD"
            )

    def pairs(keep: str, **options):
        return {
            "source": to_dict(source),
            "fields": {name: fields[name] for name in ("image", "text")},
            "templates": (arg.template,) if arg.template else (),
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


def _source(path: str) -> tuple[config.Source, dict[str, str]]:
    if path:
        source = detect(path)
        return source, default_fields(source)
    # To look at the recipe, without data. Absolute, since a run may go on from another folder.
    tar = config.Tar(str(Path("pairs.tar").absolute()))
    return tar, {"image": "jpg|jpeg|png|webp", "text": "txt"}
