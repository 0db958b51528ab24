"""Dual encoder on one's own pictures and texts, whatever holds them:
--config=configs/pairs.py:data=photos,size=S,res=224,patch=16

`data` is a folder (with a CSV, TSV or JSONL, with texts beside the pictures, or one sub-folder a
class), WebDataset tars (`photos-{000..127}.tar`), Parquet, ArrayRecord or a saved Hugging Face data
set; relative paths count from the current folder. `image` and `text` name the record's fields where
they are not called as usual; `text=class,template=a photo of a {}` makes captions of class names.
`group` names what keeps a record's look-alikes together (`json.album`, say), so that near
duplicates never lie on both sides of the split; without it each record is held out or kept on its
own. `size` is one of `zoo.SIZES`, with `depth` layers where that is given.

`form` is what the two towers are like: plain, pooled over all that they hold, or as in CLIP or
SigLIP, which others load when it is exported. CLIP's needs a tokenizer that was trained
(`docs/tokenizers.md`), SigLIP's needs loss=sigmoid, and its `embed`, else 256, is the width.
"""

from pathlib import Path
from typing import Any

from multimodal import config
from multimodal.data.detect import default_fields, detect, names, with_picture
from multimodal.data.tokenizers import load_tokenizer
from multimodal.errors import UserError
from multimodal.recipe import parse_arg, resolve
from multimodal.schema import to_dict
from multimodal.zoo import clip, resized, siglip, small, transformer


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
        depth=0,
        res=64,
        patch=8,
        tokenizer="bytes",
        length=64,
        embed=0,
        steps=2000,
        batch=256,
        loss=("softmax", "sigmoid"),
        form=("plain", "clip", "siglip"),
        workers=2,
    )

    source, fields = _source(arg.data, arg.image)
    fields["text"] = arg.text or fields.get("text")
    for name in ("image", "text"):
        if not fields.get(name):
            raise UserError(
                f"data={arg.data}: no usual name of a field of {name} among those there are: "
                f"{names(source)}; say {name}=FIELD, or see docs/data.md"
            )

    def pairs(keep: str, **options):
        return {
            "source": to_dict(source),
            "fields": {name: fields[name] for name in ("image", "text")},
            "templates": (arg.template,) if arg.template else (),
            "holdout": {"by": arg.group, "share": arg.held_out, "keep": keep},
            "workers": 0,
        } | options

    crop = {"op": "random_resized_crop", "scale": (0.6, 1.0)}
    return resolve(
        _model(arg)
        | {
            "name": "pairs",
            "steps": arg.steps,
            "batch_size": arg.batch,
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


def _model(arg) -> dict[str, dict[str, Any]]:
    stack, tokenizer = transformer(arg.size), load_tokenizer(arg.tokenizer)
    stack["depth"] = arg.depth or stack["depth"]
    tokens = {"vocab_size": tokenizer.vocab_size, "pad_id": tokenizer.pad_id}
    sizes = {"image_size": arg.res, "patch_size": arg.patch, "length": arg.length}
    sizes |= {"image": stack, "text": stack, "tokenizer": arg.tokenizer}
    sizes["embed"] = arg.embed or (stack["width"] if arg.form == "siglip" else 256)
    if arg.form == "plain":
        return small(arg.loss, **sizes, **tokens)
    tokens["end_id"] = tokenizer.end_id
    if arg.form == "clip":
        if tokenizer.file is None:
            raise UserError(
                f"form=clip: tokenizer={arg.tokenizer} has no end token of CLIP's kind; name a "
                "vocabulary, such as `python -m multimodal.tokenize train` makes"
            )
        return resized(clip("ViT-B-32"), **sizes, tokens=tokens)
    if arg.loss != "sigmoid":
        raise UserError(f"form=siglip goes with loss=sigmoid, not with loss={arg.loss}")
    if sizes["embed"] != stack["width"]:
        raise UserError(f"form=siglip has embed={stack['width']}, its width, not {arg.embed}")
    return resized(siglip("B-16"), **sizes, tokens=tokens, pad_id=tokens["pad_id"])


def _source(path: str, image: str) -> tuple[config.Source, dict[str, str]]:
    if path:
        source = detect(path)
        fields = default_fields(source)
        return with_picture(source, fields, image) if image else source, fields
    # To look at the recipe, without data. Absolute, since a run may go on from another folder.
    tar = config.Tar(str(Path("pairs.tar").absolute()))
    return tar, {"image": image or "jpg|jpeg|png|webp", "text": "txt"}
