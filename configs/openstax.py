"""Photos and diagrams of textbooks with their alternative texts, from `openstax-train.tar` below
`data_dir`: a small set of long captions, split by book module. Five minutes on two CPU cores.
"""

from multimodal import zoo
from multimodal.recipe import parse_arg, resolve


def get_config(arg: str = ""):
    arg = parse_arg(arg, loss=("softmax", "sigmoid"), steps=400, batch=64, seed=0)

    def figures(keep: str, **options):
        return {
            "source": {"kind": "tar", "path": "openstax-train.tar"},
            "fields": {"image": "jpg", "text": "txt"},
            "holdout": {"by": "json.module", "share": 0.15, "keep": keep},
        } | options

    crop = {"op": "random_resized_crop", "scale": (0.5, 1.0)}
    block = {"width": 96, "depth": 3, "heads": 4, "mlp": 192, "drop_path": 0.1}
    model = zoo.small(
        arg.loss,
        image=block,
        text=block,
        image_size=64,
        patch_size=8,
        patch_dropout=0.25,
        length=128,
    )
    return resolve(
        model
        | {
            "name": "openstax",
            "seed": arg.seed,
            "steps": arg.steps,
            "batch_size": arg.batch,
            "tasks": {
                "figures": {
                    "data": figures("train", augment=(crop, {"op": "flip"})),
                    "objectives": {"contrastive": {"kind": "contrastive", "loss": arg.loss}},
                },
            },
            "optimizer": {
                "learning_rate": 1e-3,
                "warmup_steps": min(40, arg.steps // 10),
                "beta2": 0.98,
                "weight_decay": 0.2,
            },
            "evaluators": {
                "held_out": {
                    "kind": "retrieval",
                    "data": figures("test"),
                    "by": "json.kind",
                    "every": 200,
                },
            },
        }
    )
