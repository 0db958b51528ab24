"""DataComp's training at the scale `medium` (Gadre et al. 2023, arXiv:2304.14108), for v5e:2x4.

--config=configs/datacomp_medium.py:data=PATH,test=PATH,tokenizer=FILE, with the tars of a filtered
pool and CLIP's `tokenizer.json`. All but the data is fixed, so that filters can be compared: the
reference run reaches 29.72 % zero-shot on ImageNet.
"""

from multimodal.pretraining import OPTIONS, datacomp
from multimodal.recipe import parse_arg, resolve


def get_config(arg: str = ""):
    arg = parse_arg(arg, **OPTIONS, tokenizer="clip/tokenizer.json")
    return resolve(datacomp(arg, "medium", samples=128_000_000))
