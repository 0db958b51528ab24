"""Image-text matching: does the text belong to the image?"""

import jax
import jax.numpy as jnp

from multimodal import config
from multimodal.objectives.objective import Batch, Metrics, Vocabulary
from multimodal.objectives.tokens import cross_entropy


class Matching:
    """Two-way cross-entropy (Chen et al. 2020); reads `match_logits` [batch, 2].

    A share `rate` of the examples is given the image of another one: its neighbour by a random
    distance round the batch.
    """

    reads = ("match_logits",)
    joint = False

    def __init__(self, settings: config.Matching, vocabulary: Vocabulary):
        self.weight, self.rate = settings.weight, settings.rate

    def prepare(self, batch: Batch, key: jax.Array) -> Batch:
        images = batch["image"]
        size = images.shape[0]
        pick, distance = jax.random.split(key)
        swapped = jax.random.uniform(pick, (size,)) < self.rate
        by = jax.random.randint(distance, (), 1, max(size, 2))
        wide = swapped.reshape(-1, *(1,) * (images.ndim - 1))
        return batch | {
            "image": jnp.where(wide, jnp.roll(images, by, axis=0), images),
            "valid": batch["valid"] & jnp.where(swapped, jnp.roll(batch["valid"], by), True),
            "match": (~swapped).astype(jnp.int32),
        }

    def loss(self, outputs: dict, batch: Batch, whole: Batch) -> tuple[jax.Array, Metrics]:
        logits, labels = outputs["match_logits"][:, None], batch["match"][:, None]
        weights = batch["valid"][:, None].astype(jnp.float32)
        return cross_entropy(logits, labels, weights, whole["valid"].sum())
