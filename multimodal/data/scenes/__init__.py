"""The embedded data set: drawn scenes with captions, questions and statements, and short clips.

folder = scenes.prepare("data", seed=0, image_size=32)  # generated once
train = scenes.open_split(folder, "train")              # train[0]["captions"], ["image"], ...
"""

from multimodal.data.scenes.blind import attribute_blind_recall
from multimodal.data.scenes.builder import open_split, prepare
from multimodal.data.scenes.clips import DIRECTIONS
from multimodal.data.scenes.questions import ANSWERS
from multimodal.data.scenes.world import COLOURS, PLACES, SHAPES, SIZES, Object, Scene

__all__ = [
    "ANSWERS",
    "COLOURS",
    "DIRECTIONS",
    "PLACES",
    "SHAPES",
    "SIZES",
    "Object",
    "Scene",
    "attribute_blind_recall",
    "open_split",
    "prepare",
]
