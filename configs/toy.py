"""Five families at toy size through the one trainer: `family=dual_encoder`, `siglip2`, `coca`,
`uniter` or `prefix_lm`. It shows how each is put together, and that a machine is set up.
"""

from multimodal.recipe import parse_arg, resolve

SIZE, LENGTH, VOCAB = 32, 32, 260
BLOCK = {"width": 64, "depth": 2, "heads": 4, "mlp": 128}
CAUSAL = BLOCK | {"causal": True}


def image_tower(**options):
    return {"kind": "image", "image_size": SIZE, "patch_size": 8, "transformer": BLOCK} | options


def text_tower(**options):
    tower = {"kind": "text", "vocab_size": VOCAB, "length": LENGTH, "pooler": "end"}
    return tower | {"mask_padding": True, "transformer": BLOCK} | options


MODELS = {
    "dual_encoder": {
        "embed": 32,
        "towers": {"image": image_tower(projection="linear"), "text": text_tower()},
    },
    "siglip2": {
        "embed": 32,
        "towers": {"image": image_tower(projection="linear"), "text": text_tower()},
        "logit_scale_init": 2.3025851,
        "logit_bias_init": -10.0,
        "decoder": BLOCK | {"depth": 1, "cross_attention": True},
        "heads": {"hidden": 64, "bottleneck": 32, "prototypes": 128},
    },
    "coca": {
        "embed": 32,
        "queries": 8,
        "pooler_heads": 4,
        "image": image_tower(pooler="none"),
        "text": text_tower(pooler="none", transformer=CAUSAL),
        "decoder": CAUSAL | {"cross_attention": True},
    },
    "uniter": {
        "vocab_size": VOCAB,
        "length": LENGTH,
        "image_size": SIZE,
        "region_size": 8,
        "transformer": BLOCK
        | {"norm_position": "post", "init": "bert", "activation": "gelu", "dropout": 0.1},
    },
    "prefix_lm": {
        "vocab_size": VOCAB,
        "length": LENGTH,
        "image": image_tower(pooler="none"),
        "decoder": BLOCK,
    },
}

# Objectives of each task: CoCa adds two over one forward pass, UNITER takes one a step.
TASKS = {
    "dual_encoder": {"pairs": {"contrastive": {"kind": "contrastive"}}},
    "siglip2": {
        "captions": {
            "contrastive": {"kind": "contrastive", "loss": "sigmoid"},
            "captioning": {"kind": "decoder_captioning"},
            "distillation": {
                "kind": "self_distillation",
                "begin": 0.5,
                "local_views": 2,
                "local_size": 16,
            },
            "masked": {"kind": "masked_patches", "weight": 0.25, "begin": 0.5, "patch_size": 8},
        }
    },
    "coca": {
        "captions": {
            "contrastive": {"kind": "contrastive", "weight": 1.0},
            "captioning": {"kind": "captioning", "weight": 2.0},
        }
    },
    "uniter": {
        "words": {"masked_language": {"kind": "masked_language"}},
        "pairs": {"matching": {"kind": "matching"}},
    },
    "prefix_lm": {"captions": {"captioning": {"kind": "captioning"}}},
}


def get_config(arg: str = ""):
    arg = parse_arg(arg, family=tuple(MODELS), steps=20, batch=16, train=256)
    data = {
        "source": {"kind": "scenes", "train": arg.train},
        "fields": {"image": "image", "text": "captions"},
    }
    tasks = {
        name: {"data": data, "objectives": objectives}
        for name, objectives in TASKS[arg.family].items()
    }
    return resolve(
        {
            "name": f"toy-{arg.family}",
            "steps": arg.steps,
            "batch_size": arg.batch,
            "log_every": 1,
            "preprocessing": {"image_size": SIZE, "length": LENGTH},
            "model": {"kind": arg.family} | MODELS[arg.family],
            "tasks": tasks,
            "ema": 0.99 if arg.family == "siglip2" else None,
            "optimizer": {"learning_rate": 1e-3},
        }
    )
