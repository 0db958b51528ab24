"""Fine-tunes a checkpoint, one's own or an imported one, on CIFAR-10 with prompts for captions,
from `cifar10-train.parquet` below `data_dir`; minutes on two CPU cores.

`start=RUN` is the folder of a run; without it a small model begins from nothing. `classes=old` has
the first eight classes alone, `new` the last two. A tenth of the pictures is held out.
"""

from multimodal import zoo
from multimodal.pretraining import continued
from multimodal.recipe import parse_arg, resolve

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
TEMPLATES = ("a photo of a {}.", "a blurry photo of a {}.", "a picture of a {}.", "{}")
LABELS = {"all": range(10), "old": range(8), "new": (8, 9)}
METHODS = {
    "full": {},
    "frozen": {"optimizer": {"rules": ({"pattern": "towers/image/.*", "multiplier": None},)}},
    "last": {"optimizer": {"rules": (
        {"pattern": "towers/image/stack/.*", "multiplier": None, "unlocked": 2},
        {"pattern": "towers/image/(patches|positions)/.*", "multiplier": None})}},
    "decay": {"optimizer": {"layer_decay": 0.75}},
    "lora": {"lora": {"patterns": ("towers/.*/kernel",), "rank": 2, "alpha": 4.0}},
}  # fmt: skip
BLOCK = {"width": 96, "depth": 4, "heads": 4, "mlp": 192}
WORDS = {"width": 64, "depth": 1, "heads": 4, "mlp": 128}


def pictures(classes: str, keep: str, **options):
    return {
        "source": {"kind": "parquet", "path": "cifar10-train.parquet"},
        "fields": {"image": "jpg", "text": "class", "label": "label"},
        "holdout": {"by": "key", "keep": keep},
        "where": {} if classes == "all" else {"label": tuple(LABELS[classes])},
    } | options


def zero_shot(classes: str):
    names = [CLASSES[label] for label in LABELS[classes]]
    given = {"data": pictures(classes, "test"), "classes": names, "templates": TEMPLATES}
    return given | {"kind": "zero_shot", "every": 1000, "batch_size": 500}


def get_config(arg: str = ""):
    choices = {"method": tuple(METHODS), "classes": tuple(LABELS)}
    arg = parse_arg(arg, start="", **choices, steps=200, batch=128, rate=1e-3, seed=0)
    model = continued(arg.start) if arg.start else zoo.small("softmax", image=BLOCK, text=WORDS,
        image_size=32, patch_size=4, patch_dropout=0.5, length=40)  # fmt: skip
    method, moved = METHODS[arg.method], ({"op": "flip"}, {"op": "random_shift", "share": 0.125})
    train = pictures(arg.classes, "train", templates=TEMPLATES, augment=moved)
    contrast = {"kind": "contrastive", "positives": "label"}
    optimizer = {"learning_rate": arg.rate, "warmup_steps": arg.steps // 10, "weight_decay": 0.1}
    return resolve(model | method | {
        "name": "finetune",
        "seed": arg.seed,
        "steps": arg.steps,
        "batch_size": arg.batch,
        "tasks": {"prompts": {"data": train, "objectives": {"contrastive": contrast}}},
        "optimizer": optimizer | method.get("optimizer", {}),
        "evaluators": {classes: zero_shot(classes) for classes in ("all", "old")},
    })  # fmt: skip
