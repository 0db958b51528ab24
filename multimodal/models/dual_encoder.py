"""Named towers in one space, compared pair by pair (CLIP, SigLIP, LiT)."""

import jax
import jax.numpy as jnp
from flax import nnx

from multimodal import config
from multimodal.models.layers import fold, parameter
from multimodal.models.rngs import Rngs
from multimodal.models.towers import FeatureTower, LanguageTower, VisionTower
from multimodal.parallel.rules import constrain
from multimodal.preprocessing import Preprocessing


def normalise(x: jax.Array) -> jax.Array:
    """Unit length along the last dimension, float32."""
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.maximum(jnp.square(x).sum(-1, keepdims=True), 1e-24))


class Temperature(nnx.Module):
    """Learnt log of the scale of the logits, and SigLIP's bias. The step keeps the scale below
    `largest`, after the update as CLIP does: a clip in here would leave it stuck above."""

    def __init__(self, scale: float, largest: float | None, bias: float | None, *, rngs: Rngs):
        constant = jax.nn.initializers.constant
        self.scale = parameter(constant(scale), rngs, (), (), largest=largest)
        self.bias = None if bias is None else parameter(constant(bias), rngs, (), ())

    def __call__(self) -> dict[str, jax.Array]:
        bias = {} if self.bias is None else {"bias": self.bias[...]}
        return {"log_scale": self.scale[...]} | bias


class DualEncoder(nnx.Module):
    """`config.DualEncoder`: every tower that the batch has an entry for is run. A precomputed one
    reads NAME_features, any other NAME."""

    def __init__(
        self,
        settings: config.DualEncoder,
        preprocessing: Preprocessing,
        dtype: str,
        *,
        rngs: Rngs,
    ):
        towers = {}
        for name, tower in settings.towers.items():
            if isinstance(tower, config.ImageTower):
                towers[name] = VisionTower(tower, preprocessing, settings.embed, dtype, rngs=rngs)
            elif isinstance(tower, config.Precomputed):
                towers[name] = FeatureTower(tower, settings.embed, dtype, rngs=rngs)
            else:
                towers[name] = LanguageTower(tower, settings.embed, dtype, rngs=rngs)
        self.towers = nnx.Dict(towers)
        self.entries = tuple(sorted(config.entries(settings.towers).items()))
        s = settings
        self.temperature = nnx.Dict(
            {
                "-".join(pair): Temperature(
                    s.logit_scale_init, s.logit_scale_max, s.logit_bias_init, rngs=rngs
                )
                for pair in settings.pairs
            }
        )

    def __call__(self, batch: dict, key: jax.Array | None = None) -> dict:
        """{tower: [batch, embed] unit vectors, "temperature": {pair: {"log_scale", "bias"}}}; of
        several texts an example, [batch, texts, embed]."""
        outputs = {
            name: self.encode(name, batch[entry], key=fold(key, number))
            for number, (name, entry) in enumerate(self.entries)
            if entry in batch
        }
        outputs["temperature"] = {pair: t() for pair, t in self.temperature.items()}
        return outputs

    def encode(self, name: str, inputs: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Unit vectors [batch, embed] of one tower, float32; of texts [batch, texts, length],
        [batch, texts, embed]."""
        tower, several = self.towers[name], ()
        if isinstance(tower, LanguageTower) and inputs.ndim == 3:
            several, inputs = inputs.shape[:2], inputs.reshape(-1, inputs.shape[2])
        embedding = constrain(normalise(tower(inputs, key=key)["embedding"]), "batch", None)
        return embedding.reshape(*several, -1) if several else embedding
