"""Pictograms and their names in twenty languages, from `emoji-train.tar` below `data_dir`: twenty
minutes on two CPU cores. Its vocabulary is learnt first:

python -m multimodal.tokenize train --data=$MULTIMODAL_DATA/emoji-train.tar --field=json.names \\
  --vocab_size=8192 --out=tokenizers/emoji

The variants of one pictogram (skin tones, genders) are never on both sides of the split. `seed=1`
of the split is the first whose test set has a tenth of the groups and of the pictures too; that of
seed 0 has the group of 144 faces, whose hair is like no other's. Neighbours in the file differ in
skin tone or gender alone: `group` keeps six of them in one batch, so that these are told apart.
"""

from multimodal import zoo
from multimodal.recipe import parse_arg, resolve

LANGUAGES = (
    *("en", "de", "fr", "es", "it", "pt", "nl", "pl", "ru", "uk"),
    *("tr", "ar", "fa", "hi", "vi", "id", "zh", "ja", "ko", "fi"),
)


def get_config(arg: str = ""):
    arg = parse_arg(
        arg,
        loss=("softmax", "sigmoid"),
        english=19.0,
        tokenizer="tokenizers/emoji/tokenizer.json",
        steps=2400,
        batch=256,
        seed=0,
    )

    def pictograms(keep: str, **options):
        return {
            "source": {"kind": "tar", "path": "emoji-train.tar"},
            "fields": {"image": "png", "text": "json.names"},
            "holdout": {"by": "json.split_group", "keep": keep, "seed": 1},
            "languages": dict.fromkeys(LANGUAGES, 1.0),
        } | options

    crop = {"op": "random_resized_crop", "scale": (0.7, 1.0)}
    model = zoo.small(
        arg.loss,
        image={"width": 128, "depth": 4, "heads": 4, "mlp": 256},
        text={"width": 128, "depth": 2, "heads": 4, "mlp": 256},
        image_size=72,
        patch_size=12,
        patch_dropout=0.25,
        length=20,
        vocab_size=8192,
        pad_id=8191,
        embed=128,
        resize="squash",
        tokenizer=arg.tokenizer,
    )
    return resolve(
        model
        | {
            "name": "emoji",
            "seed": arg.seed,
            "steps": arg.steps,
            "batch_size": arg.batch,
            "log_every": 100,
            "tasks": {
                "names": {
                    "data": pictograms(
                        "train",
                        languages=dict.fromkeys(LANGUAGES, 1.0) | {"en": arg.english},
                        group=6,
                        augment=(crop, {"op": "random_shift", "share": 0.1}),
                    ),
                    "objectives": {"contrastive": {"kind": "contrastive", "loss": arg.loss}},
                },
            },
            "optimizer": {
                "learning_rate": 2e-3,
                "warmup_steps": min(100, arg.steps // 10),
                "beta2": 0.98,
                "weight_decay": 0.2,
            },
            "checkpoints": {"every": 400},
            "evaluators": {
                "held_out": {
                    "kind": "retrieval",
                    "data": pictograms("test"),
                    "languages": "apart",
                    "every": 400,
                },
            },
        }
    )
