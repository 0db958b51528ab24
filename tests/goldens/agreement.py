"""How closely a model must agree with the reference (tolerances of the golden files' README)."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np

from multimodal.config import Model as ModelSettings
from multimodal.config import Transformer
from multimodal.interop import export_weights, import_weights
from multimodal.models.build import Model, build
from multimodal.preprocessing import Preprocessing

HIDDEN = 2e-5  # absolute
GRADIENT = 1e-4  # relative to the tensor's largest entry


def unrolled(part: Any, scan: bool) -> Any:
    """The same settings with every stack scanned or written out layer by layer."""
    if isinstance(part, Transformer):
        return dataclasses.replace(part, scan=scan)
    if isinstance(part, dict):
        return {name: unrolled(inner, scan) for name, inner in part.items()}
    if dataclasses.is_dataclass(part):
        changed = {name: unrolled(inner, scan) for name, inner in vars(part).items()}
        return dataclasses.replace(part, **changed)
    return part


def imported(
    layout: str, weights: dict, settings: ModelSettings, preprocessing: Preprocessing, scan: bool
) -> tuple[Model, dict]:
    """The model and the reference's weights in it."""
    model = build(unrolled(settings, scan), preprocessing, "float32")
    return model, import_weights(layout, weights, model)


def pictures(golden) -> np.ndarray:
    """[batch, height, width, 3] out of the reference's [batch, 3, height, width]."""
    name = "image" if "image" in golden.inputs else "pixel_values"
    return golden.inputs[name].transpose(0, 2, 3, 1)


def assert_close(ours, theirs, what: str) -> None:
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=HIDDEN, err_msg=what)


def assert_hidden(ours, outputs: dict, prefix: str, real=None) -> None:
    """`ours` [depth + 1, batch, length, width], every layer; real positions, then padded ones."""
    names = sorted(name for name in outputs if name.startswith(f"{prefix}hidden_states."))
    assert len(names) == len(ours), (names, ours.shape)
    real = np.ones(ours.shape[1:3], bool) if real is None else real
    for where, positions in (("real", real), ("padded", ~real)):
        for i in range(len(ours)):
            theirs = outputs[f"{prefix}hidden_states.{i}"]
            what = f"{prefix} layer {i}, {where} positions"
            assert_close(ours[i][positions], theirs[positions], what)


def assert_gradients(layout: str, ours: dict, grads: dict, model: Model) -> None:
    """Every parameter's gradient, tensor by tensor in their layout.

    A key's bias moves all scores of a query alike, which the softmax undoes: what both sides have
    there is rounding, and must be next to nothing beside the largest gradient of all.
    """
    import_weights(layout, grads, model)  # one gradient a parameter, of its shape
    largest = {name: np.abs(g).max() for name, g in grads.items()}
    rounding = 1e-6 * max(largest.values())
    for name, got in export_weights(layout, ours).items():
        if name.endswith(("k_proj.bias", "key.bias")):
            assert max(np.abs(got).max(), largest[name]) < rounding, name
        else:
            error = np.abs(got - grads[name]).max()
            assert error <= GRADIENT * largest[name], f"{name}: {error:.1e} of {largest[name]:.1e}"


highest = functools.partial(jax.default_matmul_precision, "highest")
