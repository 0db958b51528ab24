"""DataComp's training at the scale `small` (Gadre et al. 2023, arXiv:2304.14108), for v5e:2x4.

--config=configs/datacomp_small.py:data=PATH,test=PATH,tokenizer=FILE, with the tars of a filtered
pool and CLIP's `tokenizer.json`. All but the data is fixed, so that filters can be compared: the
reference run reaches 3.92 % zero-shot on ImageNet.
"""

from multimodal import zoo
from multimodal.pretraining import OPTIONS, clip_optimizer, on_pairs
from multimodal.recipe import parse_arg, resolve


def get_config(arg: str = ""):
    arg = parse_arg(arg, **OPTIONS, tokenizer="clip/tokenizer.json")
    return resolve(
        on_pairs(
            # open_clip's form of it has the exact GELU.
            zoo.clip("ViT-B-32", activation="gelu", remat="full"),
            arg,
            name="datacomp_small",
            shards=("datacomp_small/shards/*.tar", ""),
            # Samples, batch, rate and warm-up: scale_configs.py of mlfoundations/datacomp.
            steps=12_800_000 // 4096,
            batch_size=4096,
            data={
                "sampling": "replacement",  # its train.py: --dataset-resampled
                # open_clip's own augmentation.
                "augment": ({"op": "random_resized_crop", "scale": (0.9, 1.0)},),
            },
            objectives={"contrastive": {"kind": "contrastive"}},
            optimizer=clip_optimizer(5e-4, warmup_steps=500),
        )
    )
