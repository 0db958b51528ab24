"""Low-rank adaptation (Hu et al. 2022, arXiv:2106.09685) as other parameters for the same model.

An adapted kernel is the sum of one that stays as it is and of a product of two small ones, made
anew in every step. So no module knows of it, whatever computes with the model sees plain
parameters, and what is merged at the end is what was trained. The price is the gradient of a whole
kernel, which is there for a moment; the optimiser keeps nothing of that size.
"""

import dataclasses
import re
import zlib

import jax
import jax.numpy as jnp

from multimodal.checkpoint.adapted import PREFIX, merge
from multimodal.config import Lora, Optimizer, Rule
from multimodal.errors import UserError
from multimodal.models.build import Model, Params
from multimodal.schema import closest


def adapt(model: Model, settings: Lora) -> Model:
    """`model` with parameters `lora/PATH/a` [..., in, rank] and `lora/PATH/b` [..., rank, out] for
    every PATH that is adapted; a stack has one pair a layer. A is drawn with deviation in^-1/2, B
    is 0, so that the model begins as it was.

    Raises UserError for a pattern that is no regular expression, or matches no parameter or one
    that is no matrix, and for a rank that is not below its sizes.
    """
    shapes, rank = model.shapes(), settings.rank
    paths = _adapted(model, settings)
    axes = dict(model.axes)
    for path in paths:
        *layers, rows, columns = axes[path]
        axes |= {f"{PREFIX}{path}/a": (*layers, rows, None)}
        axes |= {f"{PREFIX}{path}/b": (*layers, None, columns)}

    def init(key: jax.Array) -> Params:
        params = model.init(key)
        for path in paths:
            *layers, rows, columns = shapes[path].shape
            own = jax.random.fold_in(key, zlib.crc32(path.encode()))
            a = jax.random.normal(own, (*layers, rows, rank), jnp.float32) * rows**-0.5
            params[f"{PREFIX}{path}/a"] = a
            params[f"{PREFIX}{path}/b"] = jnp.zeros((*layers, rank, columns), jnp.float32)
        return dict(sorted(params.items()))

    return model._replace(
        axes=dict(sorted(axes.items())), init=init, plain=lambda params: merge(params, settings)
    )


def frozen_otherwise(settings: Optimizer) -> Optimizer:
    """What is neither of an adaptation nor named by a rule stays as it is."""
    rest = Rule(f"(?!{PREFIX}).*", None)
    return dataclasses.replace(settings, rules=(*settings.rules, rest))


def _adapted(model: Model, settings: Lora) -> list[str]:
    where, found, shapes = "config.lora", set(), model.shapes()
    for pattern in settings.patterns:
        try:
            matched = [path for path in shapes if re.fullmatch(pattern, path)]
        except re.error as error:
            raise UserError(
                f"{where}.patterns: {pattern!r} is no regular expression: {error}"
            ) from None
        if not matched:
            raise UserError(
                f"{where}.patterns: {pattern!r} matches no parameter as a whole; the nearest is "
                f"{closest(pattern, shapes)}"
            )
        found |= set(matched)
    for path in sorted(found):
        sizes = shapes[path].shape[int(path in model.stacked) :]
        if len(sizes) != 2:
            raise UserError(
                f"{where}.patterns: {path} {shapes[path].shape} is no matrix; name kernels, such as"
                " '.*/kernel'"
            )
        if settings.rank >= min(sizes):
            raise UserError(
                f"{where}.rank={settings.rank}: must be below both sizes of {path} {sizes}; lower "
                "it, or leave that out"
            )
    if not found:
        raise UserError(f"{where}.patterns: names nothing to adapt")
    return sorted(found)
