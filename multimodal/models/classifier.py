"""A picture to the scores of its classes (Dosovitskiy et al. 2021); LiT takes its tower."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.nn.initializers import constant, zeros

from multimodal import config
from multimodal.models.layers import Linear
from multimodal.models.rngs import Rngs
from multimodal.models.towers import VisionTower
from multimodal.parallel.rules import constrain
from multimodal.preprocessing import Preprocessing


class Classifier(nnx.Module):
    """`config.Classifier`: a tower, whose parameters lie where a dual encoder has them, and a head
    that begins with zeros and one bias for all classes."""

    def __init__(
        self,
        settings: config.Classifier,
        preprocessing: Preprocessing,
        dtype: str,
        *,
        rngs: Rngs,
    ):
        image = settings.towers["image"]
        width = image.transformer.width
        self.towers = nnx.Dict(
            {"image": VisionTower(image, preprocessing, width, dtype, rngs=rngs)}
        )
        bias, axes = constant(settings.head_bias_init), ("embed", "vocab")
        self.head = Linear(width, settings.classes, axes, zeros, rngs=rngs, bias_init=bias)

    def __call__(self, batch: dict, key: jax.Array | None = None) -> dict:
        """{"class_logits": float32 [batch, classes]}."""
        features = self.encode("image", batch["image"], key=key)
        return {"class_logits": constrain(self.head(features), "batch", "vocab")}

    def encode(self, name: str, inputs: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """What the head reads: pooled features [batch, width] of the tower "image", float32."""
        features = self.towers[name](inputs, key=key)["embedding"]
        return constrain(features.astype(jnp.float32), "batch", None)
