"""The head of self-distillation: features to unit vectors that are compared with learnt ones."""

import jax
from flax import nnx
from jax.nn.initializers import lecun_normal, normal

from multimodal.config import Heads
from multimodal.models.dual_encoder import normalise
from multimodal.models.layers import ACTIVATIONS, Linear, parameter
from multimodal.models.rngs import Rngs


class PrototypeHead(nnx.Module):
    """Three linear maps with GELU between them, then unit length (DINO, Caron et al. 2021).

    Cosines with the prototypes, divided by a temperature, are the logits of a loss. Linear maps are
    drawn with variance 1 / fan in, which is near the 0.02 of that paper at its sizes and does not
    let features vanish at small ones.
    """

    def __init__(self, settings: Heads, width: int, *, rngs: Rngs):
        s, init = settings, lecun_normal()
        self.up = Linear(width, s.hidden, ("embed", "mlp"), init, rngs=rngs)
        self.middle = Linear(s.hidden, s.hidden, ("mlp", "embed"), init, rngs=rngs)
        self.down = Linear(s.hidden, s.bottleneck, ("embed", None), init, rngs=rngs)
        shape = (s.prototypes, s.bottleneck)
        self.prototypes = parameter(normal(s.bottleneck**-0.5), rngs, shape, ("vocab", None))

    def __call__(self, x: jax.Array) -> jax.Array:
        # [..., width] -> [..., bottleneck], float32
        gelu = ACTIVATIONS["gelu"]
        return normalise(self.down(gelu(self.middle(gelu(self.up(x))))))

    def directions(self) -> jax.Array:
        """The prototypes as unit vectors [prototypes, bottleneck], float32."""
        return normalise(self.prototypes[...])
