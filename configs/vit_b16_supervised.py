"""ViT-B/16 trained to tell classes (Dosovitskiy et al. 2021; AugReg, Steiner et al. 2022,
arXiv:2106.10270), LiT's image tower, for v5e:8x8: ImageNet-21k with a yes or no for each of its
21,843 classes, or `classes=1000` with exclusive ones (Beyer et al. 2022, arXiv:2205.01580).

--config=configs/vit_b16_supervised.py:data=PATH,test=PATH,classes=N for a set of one's own:
anything that `multimodal.data.detect` knows, with labels counted from 0. Figures are those of
big_vision's `vit_i21k.py` and `vit_s16_i1k.py`, but for RandAugment, which is left out, and the
fixed positions of the smaller set, learnt here.
"""

from multimodal import zoo
from multimodal.data.detect import default_fields, detect
from multimodal.recipe import parse_arg, resolve

# Records and epochs of ImageNet-21k without its first 51,200, and of ImageNet without its last
# hundredth, both as TFDS has them.
LARGE = {"records": 14_145_997, "epochs": 300, "batch": 4096}
SMALL = {"records": 1_268_355, "epochs": 90, "batch": 1024}
SPLITS = {
    "large": ("imagenet21k", "full[51200:]", "full[:25600]"),
    "small": ("imagenet2012", "train[:99%]", "validation"),
}


def get_config(arg: str = ""):
    arg = parse_arg(
        arg, data="", test="", classes=21843, batch=0, steps=0, res=224, mixup=0.2, workers=16
    )
    large = arg.classes > 1000
    figures = LARGE if large else SMALL
    batch = arg.batch or figures["batch"]
    name, train, test = SPLITS["large" if large else "small"]

    def labelled(path: str, split: str):
        if path:
            source = detect(path)
            found = default_fields(source)
            return {"source": source, "fields": {n: found.get(n, n) for n in ("image", "label")}}
        source = {"kind": "tfds", "name": name, "split": split}
        return {"source": source, "fields": {"image": "image", "label": "label"}}

    evaluated = arg.test or not arg.data
    held_out = {"kind": "accuracy", "data": labelled(arg.test, test), "every": 5000}
    crop = {"op": "random_resized_crop", "scale": (0.05, 1.0)}  # Szegedy et al. 2015
    model = zoo.vit("B-16", image_size=arg.res, keep="inputs")
    return resolve(
        {
            "name": "vit_b16_supervised",
            "dtype": "bfloat16",
            "steps": arg.steps or figures["epochs"] * figures["records"] // batch,
            "batch_size": batch,
            "preprocessing": {"image_size": arg.res},
            "model": {
                "kind": "classifier",
                "towers": {"image": model},
                "classes": arg.classes,
                "head_bias_init": -10.0 if large else 0.0,
            },
            "tasks": {
                "classes": {
                    "data": labelled(arg.data, train)
                    | {"augment": (crop, {"op": "flip"}), "workers": arg.workers},
                    "objectives": {
                        "classification": {
                            "kind": "classification",
                            "loss": "sigmoid" if large else "softmax",
                            "mixup": arg.mixup,
                        }
                    },
                }
            },
            "optimizer": {
                "learning_rate": 1e-3,
                "warmup_steps": 10_000,
                "weight_decay": 0.1,  # times the rate: 1e-4
                "no_decay": ("(?!.*/kernel$).*",),
                "clip_norm": 1.0,
            },
            "evaluators": {"held_out": held_out} if evaluated else {},
        }
    )
