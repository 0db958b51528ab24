"""LiT B/16 (Zhai et al. 2022, arXiv:2111.07991): a text tower of BERT's form learns to read a
trained image tower that stays as it is, for v5e:8x8.

--config=configs/lit_b16.py:start=RUN,data=PATH,test=PATH,tokenizer=FILE, where RUN is the folder of
a run of `vit_b16_supervised.py`. The picture's vector is compared as it is, without a head.

`precomputed=true` trains on its features, which `python -m multimodal.embed --workdir=RUN
--data=PATH --out=FILE.array_record` computes once: `data` and `test` are such files, and the run
holds no image tower. Pictures are then not mirrored at random.

Rate, clipping, warm-up, temperature and length are of big_vision's `lit_coco.py`, batch and steps
of the larger public model; the authors' CC12M and YFCC100M are one default here, CC12M as
img2dataset lays it out.
"""

from multimodal import zoo
from multimodal.pretraining import OPTIONS, on_pairs
from multimodal.recipe import parse_arg, resolve

CC12M = ("cc12m/{00000..01241}.tar", "cc12m/01242.tar")
FEATURES = ("cc12m-features.array_record", "cc12m-features-test.array_record")
LENGTH = 16


def get_config(arg: str = ""):
    arg = parse_arg(
        arg,
        **OPTIONS,
        start="",
        precomputed=False,
        tokenizer="bert/tokenizer.json",
        batch=16384,
        steps=60_000,
    )
    image = zoo.vit("B-16", keep="inputs")
    width = image["transformer"]["width"]
    text = {
        "kind": "text",
        "vocab_size": 30522,
        "length": LENGTH,
        "pooler": "first",
        "end_id": 102,
        "mask_padding": True,
        "token_types": 2,
        "embedding_norm": True,
        "final_norm": False,
        "projection": "linear_bias",
        "transformer": zoo.transformer(
            "B", norm_position="post", norm_eps=1e-12, activation="gelu", init="bert", keep="inputs"
        ),
    }
    values = on_pairs(
        {
            "model": {
                "kind": "dual_encoder",
                "embed": width,
                "logit_scale_init": 2.3025851,  # log(10)
                "logit_scale_max": None,
                "towers": {"image": image, "text": text},
            },
            "preprocessing": {"image_size": 224, "length": LENGTH},
        },
        arg,
        name="lit_b16",
        steps=arg.steps,
        batch_size=arg.batch,
        shards=CC12M,
        objectives={"contrastive": {"kind": "contrastive"}},
        data={} if arg.precomputed else {"augment": ({"op": "flip"},)},
        optimizer={
            "learning_rate": 1e-3,
            "warmup_steps": max(arg.steps * 3 // 100, 100),
            "weight_decay": 0.1,  # times the rate: 1e-4
            "no_decay": ("(?!.*/kernel$).*",),
            "clip_norm": 1.0,
        },
    )
    if arg.precomputed:
        towers = values["model"]["towers"]
        towers["image"] = {"kind": "precomputed", "width": width}
        held_out = [evaluator["data"] for evaluator in values["evaluators"].values()]
        for data, path in zip(
            [values["tasks"]["pairs"]["data"], *held_out], FEATURES, strict=False
        ):
            data["fields"] = {"image_features": "image_features", "text": "text"}
            if not arg.data:
                data["source"] = {"kind": "array_record", "path": path}
        return resolve(values)
    values["optimizer"]["rules"] = ({"pattern": "towers/image/.*", "multiplier": None},)
    if arg.start:
        values["start"] = {"checkpoint": arg.start, "only": ("towers/image/.*",)}
    return resolve(values)
