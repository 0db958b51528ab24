"""CIFAR-10 with prompts for captions, from `cifar10-train.parquet` below `data_dir`: about
twenty minutes on two CPU cores.

All pictures of a class have the same captions, so those of one class match each other
(`positives=label`); `positives=own` takes them for negatives, as CLIP would. A tenth of the
pictures is held out. Half of the patches are left out in training (FLIP, arXiv:2212.00794), which
halves its cost.
"""

from multimodal import zoo
from multimodal.recipe import parse_arg, resolve

CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
TEMPLATES = (
    "a photo of a {}.",
    "a blurry photo of a {}.",
    "a low resolution photo of a {}.",
    "a photo of the small {}.",
    "a photo of the big {}.",
    "a picture of a {}.",
    "{}",
)


def get_config(arg: str = ""):
    arg = parse_arg(
        arg,
        loss=("softmax", "sigmoid"),
        positives=("label", "own", "text"),
        steps=2200,
        batch=128,
        seed=0,
    )

    def pictures(keep: str, **options):
        return {
            "source": {"kind": "parquet", "path": "cifar10-train.parquet"},
            "fields": {"image": "jpg", "text": "class", "label": "label"},
            "holdout": {"by": "key", "keep": keep},
        } | options

    model = zoo.small(
        arg.loss,
        # Unrolled: a loop over so small blocks costs a CPU a fifth more.
        image={"width": 128, "depth": 4, "heads": 4, "mlp": 256, "scan": False},
        text={"width": 64, "depth": 1, "heads": 4, "mlp": 128},
        image_size=32,
        patch_size=4,
        patch_dropout=0.5,
        length=40,
    )
    return resolve(
        model
        | {
            "name": "cifar10",
            "seed": arg.seed,
            "steps": arg.steps,
            "batch_size": arg.batch,
            "log_every": 100,
            "tasks": {
                "prompts": {
                    "data": pictures(
                        "train",
                        templates=TEMPLATES,
                        augment=({"op": "flip"}, {"op": "random_shift", "share": 0.125}),
                    ),
                    "objectives": {
                        "contrastive": {
                            "kind": "contrastive",
                            "loss": arg.loss,
                            "positives": arg.positives,
                        }
                    },
                },
            },
            "optimizer": {
                "learning_rate": 1e-3,
                "warmup_steps": min(200, arg.steps // 10),
                "beta2": 0.98,
                "weight_decay": 0.1,
            },
            "checkpoints": {"every": 500},
            "evaluators": {
                "zero_shot": {
                    "kind": "zero_shot",
                    "data": pictures("test"),
                    "classes": CLASSES,
                    "templates": TEMPLATES,
                    "every": 1100,
                    "batch_size": 500,
                },
            },
        }
    )
