"""Of each layout of weights, what makes our settings of the config that goes with it."""

from multimodal.interop.big_vision import big_vision_siglip, big_vision_vit
from multimodal.interop.huggingface import (
    huggingface_bert,
    huggingface_clip,
    huggingface_siglip,
    huggingface_siglip2,
    huggingface_vit,
)
from multimodal.interop.open_clip import open_clip_clip, open_clip_siglip
from multimodal.interop.openai import open_clip_coca, openai_clip

SETTINGS = {
    "big_vision_siglip": big_vision_siglip,
    "big_vision_vit": big_vision_vit,
    "huggingface_bert": huggingface_bert,
    "huggingface_clip": huggingface_clip,
    "huggingface_siglip": huggingface_siglip,
    "huggingface_siglip2": huggingface_siglip2,
    "huggingface_vit": huggingface_vit,
    "huggingface_vit_5": huggingface_vit,
    "open_clip_coca": open_clip_coca,
    "open_clip_custom": open_clip_clip,
    "open_clip_siglip": open_clip_siglip,
    "openai_clip": openai_clip,
}
