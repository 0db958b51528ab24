"""Pictograms and their names in twenty languages, from `emoji-train.tar` below `data_dir`: 26
minutes on one CPU core. Its vocabulary is learnt first, of what is not held out:

python -m multimodal.tokenize train --data=$MULTIMODAL_DATA/emoji-train.tar --field=json.names \\
  --field=json.keywords --holdout=json.split_group:0.1:2 --vocab_size=65536 --out=tokenizers/emoji

The variants of one pictogram (skin tones, genders) are never on both sides of the split. `split=2`
is the first that holds out about 200 pictures, of 104 groups: 0 takes the group of 144 faces, 1 two
of the five next largest. With 2,400 pictures to learn from, what generalises counts: small patches,
most of them dropped, and their mean; whole words as tokens, added up, not combined, so that each
weighs what it has learnt to; at times their pieces, of which unknown words consist; keywords beside
the names; an average of the parameters. A limit on the logits' scale keeps names of unknown words
from drawing all pictures to them. Neighbours in the file differ in skin tone or gender alone:
`group` keeps three of them in one batch, so that these are told apart.
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
        steps=1500,
        batch=192,
        split=2,
        seed=0,
    )

    def pictograms(keep: str, **options):
        return {
            "source": {"kind": "tar", "path": "emoji-train.tar"},
            "fields": {"image": "png", "text": "json.names"},
            "holdout": {"by": "json.split_group", "keep": keep, "seed": arg.split},
        } | options

    warp = {"op": "random_affine", "shift": 0.1, "zoom": (0.75, 1.4)}
    model = zoo.small(
        arg.loss,
        image={"width": 96, "depth": 4, "heads": 4, "mlp": 192},
        text={"width": 128, "depth": 0, "heads": 4, "init": "clip"},
        image_size=60,
        patch_size=4,
        patch_dropout=0.75,
        length=32,
        vocab_size=65536,
        pad_id=65535,
        embed=256,
        resize="squash",
        tokenizer=arg.tokenizer,
    )
    towers = model["model"]["towers"]
    towers["image"] |= {"pooler": "mean"}
    towers["text"] |= {"final_norm": False}
    model["model"] |= {"logit_scale_max": 2.5}
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
                        fields={"image": "png", "text": "json.names", "tags": "json.keywords"},
                        tags={"share": 0.7},
                        bpe_dropout=0.1,
                        group=3,
                        augment=(warp,),
                    ),
                    "objectives": {
                        "contrastive": {
                            "kind": "contrastive",
                            "loss": arg.loss,
                            "positives": "text",
                        }
                    },
                },
            },
            "optimizer": {
                "learning_rate": 2e-3,
                "warmup_steps": min(100, arg.steps // 10),
                "beta2": 0.98,
                "weight_decay": 0.5,
            },
            "ema": 0.99,
            "checkpoints": {"every": 250},
            "evaluators": {
                "held_out": {
                    "kind": "retrieval",
                    "data": pictograms("test"),
                    "languages": "apart",
                    "every": 250,
                },
            },
        }
    )
