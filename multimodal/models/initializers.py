"""Initial distributions, by the paper that a recipe follows.

`clip`: Radford et al. 2021, the released code's scheme for its text Transformer, used for both
towers; `vit`: Dosovitskiy et al. 2021 and SigLIP (Xavier-uniform blocks); `bert`: truncated normal
of 0.02 (Devlin et al. 2019).
"""

from typing import NamedTuple

from jax.nn.initializers import (
    Initializer,
    lecun_normal,
    normal,
    truncated_normal,
    variance_scaling,
    xavier_uniform,
    zeros,
)


class BlockInit(NamedTuple):
    """Kernels of a block: query, key and value; attention output; the two of the MLP."""

    attention_in: Initializer
    attention_out: Initializer
    mlp_in: Initializer
    mlp_out: Initializer
    mlp_bias: Initializer


class EdgeInit(NamedTuple):
    """What stands before and after the blocks."""

    patch: Initializer
    token: Initializer
    image_position: Initializer
    text_position: Initializer
    class_token: Initializer
    projection: Initializer


def _bert() -> Initializer:
    # stddev is that of the normal before it is cut at two of them.
    return truncated_normal(0.02)


def block_init(name: str, width: int, depth: int) -> BlockInit:
    """Initialisers of the blocks of a stack of this width and depth."""
    if name == "clip":
        residual = normal(width**-0.5 * (2 * depth) ** -0.5)
        return BlockInit(
            normal(width**-0.5), residual, normal((2 * width) ** -0.5), residual, zeros
        )
    if name == "bert":
        return BlockInit(_bert(), _bert(), _bert(), _bert(), zeros)
    xavier = xavier_uniform()
    return BlockInit(xavier, xavier, xavier, xavier, normal(1e-6))


def edge_init(name: str, width: int) -> EdgeInit:
    """Initialisers of embeddings, positions and the projection of a tower of this width."""
    scaled = normal(width**-0.5)
    if name == "clip":
        patch = variance_scaling(1 / 3, "fan_in", "uniform")  # uniform in +-fan_in**-0.5
        return EdgeInit(patch, normal(0.02), scaled, normal(0.01), scaled, scaled)
    if name == "bert":
        return EdgeInit(_bert(), _bert(), _bert(), _bert(), _bert(), _bert())
    return EdgeInit(lecun_normal(), scaled, scaled, scaled, zeros, lecun_normal())
