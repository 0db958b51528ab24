"""Initial distributions, by the paper that a recipe follows and the code released with it.

`clip`: Radford et al. 2021, the text Transformer; `clip_image`: its image Transformer, whose blocks
keep PyTorch's own distributions; `vit`: Dosovitskiy et al. 2021 as in SigLIP's code (Xavier-uniform
blocks); `bert`: truncated normal of 0.02 (Devlin et al. 2019).
"""

from typing import NamedTuple

from jax.nn.initializers import (
    Initializer,
    lecun_normal,
    normal,
    truncated_normal,
    uniform,
    variance_scaling,
    xavier_uniform,
    zeros,
)

from multimodal.config import Transformer


class LinearInit(NamedTuple):
    kernel: Initializer
    bias: Initializer = zeros


class BlockInit(NamedTuple):
    """Query, key and value; attention output (biases are zeros); the two maps of the MLP."""

    attention_in: Initializer
    attention_out: Initializer
    mlp_up: LinearInit
    mlp_down: LinearInit


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


def _uniform_by_fan_in(scale: float = 1.0) -> Initializer:
    """Uniform in +- (scale / fan_in)**0.5."""
    return variance_scaling(scale / 3, "fan_in", "uniform")


def _symmetric(bound: float) -> Initializer:
    draw = uniform(2 * bound)
    return lambda key, shape, dtype: draw(key, shape, dtype) - bound


def block_init(settings: Transformer) -> BlockInit:
    """Initialisers of the blocks of a stack."""
    name, width, depth = settings.init, settings.width, settings.depth
    # PyTorch's biases: uniform in +- fan_in**-0.5; CLIP's code sets kernels only.
    up_bias, down_bias = _symmetric(width**-0.5), _symmetric(settings.mlp**-0.5)
    if name == "clip":
        residual = normal(width**-0.5 * (2 * depth) ** -0.5)
        return BlockInit(
            attention_in=normal(width**-0.5),
            attention_out=residual,
            mlp_up=LinearInit(normal((2 * width) ** -0.5), up_bias),
            mlp_down=LinearInit(residual, down_bias),
        )
    if name == "clip_image":
        return BlockInit(
            # Xavier-uniform over query, key and value as one [width, 3 width] map.
            attention_in=_uniform_by_fan_in(6 / 4),
            attention_out=_uniform_by_fan_in(),
            mlp_up=LinearInit(_uniform_by_fan_in(), up_bias),
            mlp_down=LinearInit(_uniform_by_fan_in(), down_bias),
        )
    if name == "bert":
        return BlockInit(_bert(), _bert(), LinearInit(_bert()), LinearInit(_bert()))
    xavier = LinearInit(xavier_uniform(), normal(1e-6))
    return BlockInit(xavier.kernel, xavier.kernel, xavier, xavier)


def edge_init(name: str, width: int) -> EdgeInit:
    """Initialisers of embeddings, positions and the projection of a tower of this width."""
    scaled = normal(width**-0.5)
    if name in ("clip", "clip_image"):
        patch = _uniform_by_fan_in()
        return EdgeInit(patch, normal(0.02), scaled, normal(0.01), scaled, scaled)
    if name == "bert":
        return EdgeInit(_bert(), _bert(), _bert(), _bert(), _bert(), _bert())
    return EdgeInit(lecun_normal(), scaled, scaled, scaled, zeros, lecun_normal())
