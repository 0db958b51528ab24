"""How far a retriever gets that ignores one attribute."""

from collections import Counter
from collections.abc import Sequence

from multimodal.data.scenes.language import caption_without
from multimodal.data.scenes.world import ATTRIBUTES, Scene


def attribute_blind_recall(scenes: Sequence[Scene]) -> dict[str, float]:
    """Ceiling of R@1 among `scenes`, both ways, for a retriever blind to one attribute.

    Scenes that read the same without the attribute are one class; the best such a retriever can
    do is to guess within it, so its expected R@1 is the mean of 1 / (size of the scene's class).
    """
    recall = {}
    for attribute in ATTRIBUTES:
        seen = Counter(caption_without(scene, attribute) for scene in scenes)
        recall[attribute] = len(seen) / len(scenes)  # the sum of 1/size over a class is 1
    return recall
