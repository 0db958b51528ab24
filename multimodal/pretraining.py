"""What recipes of pretraining on pairs from the web have in common: where the pairs are, how they
are evaluated on the way, the optimisers of papers, and how to go on from another run, as plain
settings."""

from pathlib import Path
from typing import Any

from multimodal import recipe, zoo
from multimodal.data.detect import default_fields, detect
from multimodal.errors import UserError

# img2dataset's form of LAION-400M below `data_dir`: 41,456 shards of up to 10,000 pairs each
# (Schuhmann et al. 2021), the last of them held out.
LAION_400M = ("laion400m/{00000..41454}.tar", "laion400m/41455.tar")

# Options of every such recipe, for `parse_arg`. `data` to train on and `test` held out: anything
# that `multimodal.data.detect` knows. `workers`: processes a host that read and decode.
OPTIONS = {"data": "", "test": "", "workers": 16}


def on_pairs(
    named: dict[str, Any],
    arg: Any,
    *,
    objectives: dict[str, Any],
    data: dict[str, Any] | None = None,
    shards: tuple[str, str] = LAION_400M,
    **settings: Any,
) -> dict[str, Any]:
    """Values of a run of the model `named`, as the zoo gives it, with the options `arg`; `data`
    says how the pairs are read, `settings` the rest of the run. Without `arg.data` the pairs are
    in `shards`, those to train on and those held out.

    Raises UserError for data that are not there or of no known kind.
    """
    train, test = (arg.data, arg.test) if arg.data else shards
    read = _found if arg.data else _shards
    held_out = (
        {"held_out": {"kind": "retrieval", "data": read(test), "every": 5000}} if test else {}
    )
    return {
        "dtype": "bfloat16",
        "model": named["model"],
        "preprocessing": named["preprocessing"] | {"tokenizer": arg.tokenizer},
        "tasks": {
            "pairs": {
                "data": read(train) | {"workers": arg.workers} | (data or {}),
                "objectives": objectives,
            }
        },
        "evaluators": held_out,
    } | settings


def _found(path: str) -> dict[str, Any]:
    source = detect(path)
    return {"source": source, "fields": default_fields(source)}


def _shards(path: str) -> dict[str, Any]:
    return {"source": {"kind": "tar", "path": path}, "fields": {"image": "jpg", "text": "txt"}}


def go_on(run: str, *towers: str) -> dict[str, Any]:
    """`Config.start` from a run whose pictures or texts, of these `towers`, had another size."""
    names = {"image": "image_size", "text": "length"}
    return {"checkpoint": run, "accept": tuple(names[tower] for tower in towers)}


def continued(run: str) -> dict[str, Any]:
    """`model`, `preprocessing` and `start` of a run that begins as the run in the folder `run`
    ended, where its tokenizer's file lies too. Raises UserError where there is no such run."""
    file = Path(run).expanduser() / "config.json"
    if not file.is_file():
        raise UserError(f"start={run}: no run folder, which would have a config.json")
    saved = recipe.load(str(file)).to_dict()
    if saved["preprocessing"]["tokenizer"] != "bytes":
        saved["preprocessing"]["tokenizer"] = run
    return {
        "model": saved["model"],
        "preprocessing": saved["preprocessing"],
        "start": {"checkpoint": run},
    }


def clip_optimizer(
    learning_rate: float, warmup_steps: int, beta2: float = 0.98, eps: float = 1e-6
) -> dict[str, Any]:
    """Adam with decay of all but gains, biases and single vectors, on a cosine, and no clipping of
    gradients: Radford et al. 2021, section 2 and appendix F, as open_clip reads them."""
    return {
        "learning_rate": learning_rate,
        "warmup_steps": warmup_steps,
        "beta2": beta2,
        "eps": eps,
        "weight_decay": 0.2,
        "no_decay": (".*bias", ".*scale", ".*token"),
        "clip_norm": None,
    }


def siglip_optimizer(name: str) -> dict[str, Any]:
    """`adamw` or `adafactor` as in SigLIP (Zhai et al. 2023): rate 1e-3, beta2 0.95, decay 1e-4;
    big_vision multiplies that decay by the schedule's shape alone and leaves all but kernels out.
    Warm-up, cosine and clipping are those of SigLIP 2 (Tschannen et al. 2025)."""
    return {
        "name": name,
        "learning_rate": 1e-3,
        "warmup_steps": 20_000,
        "beta2": 0.95,
        "weight_decay": 0.1,  # times the rate: 1e-4
        "no_decay": ("(?!.*/kernel$).*",),
        "clip_norm": 1.0,
    }


def datacomp(arg: Any, scale: str, samples: int) -> dict[str, Any]:
    """DataComp's training (Gadre et al. 2023, arXiv:2304.14108) at the scales `small` and `medium`,
    which differ in `samples` alone; batch, rate and warm-up as in its published settings."""
    return on_pairs(
        # open_clip's form of it has the exact GELU.
        zoo.clip("ViT-B-32", activation="gelu", keep="inputs"),
        arg,
        name=f"datacomp_{scale}",
        shards=(f"datacomp_{scale}/shards/*.tar", ""),
        steps=samples // 4096,
        batch_size=4096,
        data={
            "sampling": "replacement",  # its shards are drawn anew each time
            # open_clip's own augmentation.
            "augment": ({"op": "random_resized_crop", "scale": (0.9, 1.0)},),
        },
        objectives={"contrastive": {"kind": "contrastive"}},
        optimizer=clip_optimizer(5e-4, warmup_steps=500),
    )
