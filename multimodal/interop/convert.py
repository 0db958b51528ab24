"""Weights of another layout into our parameters and back, by the tables of `layouts`."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange

from multimodal.errors import UserError
from multimodal.interop.layouts import LAYOUTS, Layout
from multimodal.models.build import Model
from multimodal.schema import nearest


class Transform(NamedTuple):
    """One tensor of theirs as one of ours, and the way back; works on any kind of array."""

    to_ours: Callable[[Any], Any]
    to_theirs: Callable[[Any], Any]


def _patch_to_convolution(kernel: Any) -> Any:
    p = math.isqrt(kernel.shape[0] // 3)
    return rearrange(kernel, "(p q c) o -> o c p q", p=p, q=p)


def _patch_to_flax(kernel: Any) -> Any:
    p = math.isqrt(kernel.shape[0] // 3)
    return rearrange(kernel, "(p q c) o -> p q c o", p=p, q=p)


TRANSFORMS = {
    "as_is": Transform(lambda x: x, lambda x: x),
    "linear": Transform(lambda x: x.T, lambda x: x.T),  # [out, in] and [in, out]
    "patch": Transform(lambda x: rearrange(x, "o c p q -> (p q c) o"), _patch_to_convolution),
    "flax_patch": Transform(lambda x: rearrange(x, "p q c o -> (p q c) o"), _patch_to_flax),
    "one_more": Transform(lambda x: x[None], lambda x: x[0]),  # ours has a leading axis of 1
    "one_less": Transform(lambda x: x[0], lambda x: x[None]),  # theirs has it
}


class Origin(NamedTuple):
    """Where a parameter of ours is in theirs: one tensor, or one a layer; of `parts` that lie one
    after the other along the first axis it is number `part`."""

    tensors: tuple[Any, ...]
    names: tuple[str, ...]
    stacked: bool
    part: int
    parts: int
    to_ours: Callable[[Any], Any]

    def read(self, index: tuple[slice, ...] = ()) -> np.ndarray:
        """This part of the parameter, float32; no more than one tensor is looked at at a time."""
        if not self.stacked:
            return np.array(self._ours(self.tensors[0])[index], np.float32, order="C")
        chosen = self.tensors[index[0]] if index else self.tensors
        first = self._ours(chosen[0])[index[1:]]
        result = np.empty((len(chosen), *first.shape), np.float32)
        del first
        for layer, tensor in enumerate(chosen):
            result[layer] = self._ours(tensor)[index[1:]]
        return result

    def _ours(self, tensor: Any) -> np.ndarray:
        return self.to_ours(_split(np.asarray(tensor), self.parts)[self.part])


def origins(layout: str, weights: Mapping[str, Any], model: Model) -> dict[str, Origin]:
    """Where each parameter of `model` is among the tensors of a checkpoint in `layout`, by path.

    `weights` are arrays, or `tensors.Stored`, of which nothing is read. Raises UserError, naming
    the tensor, when one is missing, left over, there by two names, no floating-point numbers or of
    another shape than the model's, and when the layout has no place for one of the model's
    parameters.
    """
    table = _table(layout)
    for name in weights:
        today = table.today(name)
        if today != name and today in weights:
            raise UserError(f"{layout} weights: {name} is {today} by an older name; both are there")
    weights = {table.today(name): x for name, x in weights.items()}
    shapes = model.shapes()
    expected = jax.eval_shape(functools.partial(_export, layout, table), shapes)
    for copy, name in table.tied.items():
        if copy in weights and not np.array_equal(weights[copy], weights.get(name)):
            raise UserError(f"{layout} weights: {copy} differs from {name}, to which it is tied")
    passed_over = {*table.ignored, *table.tied}
    given = {name: x for name, x in weights.items() if name not in passed_over}
    _same_names(layout, given, expected)
    for name, leaf in expected.items():
        if given[name].shape != leaf.shape:
            raise UserError(
                f"{layout} weights: {name} has shape {tuple(given[name].shape)}, but the model's "
                f"settings make it {tuple(leaf.shape)}; take the settings from its own config"
            )
        if not jnp.issubdtype(given[name].dtype, jnp.floating):
            raise UserError(f"{layout} weights: {name} is of type {given[name].dtype}")
    found = {}
    for row in table.rows:
        if not all(path in shapes for path in row.paths):
            continue
        stacked = "{i}" in row.theirs
        depth = shapes[row.paths[0]].shape[0] if stacked else 1
        names = tuple(row.theirs.format(i=i) for i in range(depth))
        tensors = tuple(given[name] for name in names)
        to_ours, parts = TRANSFORMS[row.transform].to_ours, len(row.paths)
        for part, path in enumerate(row.paths):
            found[path] = Origin(tensors, names, stacked, part, parts, to_ours)
    return found


def import_weights(layout: str, weights: Mapping[str, Any], model: Model) -> dict[str, np.ndarray]:
    """Parameters of `model` by path, float32, from the tensors of a checkpoint in `layout`.

    Raises UserError as `origins` does.
    """
    return {path: origin.read() for path, origin in origins(layout, weights, model).items()}


def export_weights(layout: str, params: dict[str, Any]) -> dict[str, np.ndarray]:
    """The inverse: their tensors by name. Raises UserError for a parameter without a place."""
    tensors = _export(layout, _table(layout), params)
    return {name: np.asarray(x, order="C") for name, x in tensors.items()}


def _export(layout: str, table: Layout, params: dict[str, Any]) -> dict[str, Any]:
    tensors: dict[str, Any] = {}
    homeless = set(params)
    for row in table.rows:
        if not all(path in params for path in row.paths):
            continue
        homeless -= set(row.paths)
        to_theirs = TRANSFORMS[row.transform].to_theirs
        leaves = [params[path] for path in row.paths]
        if "{i}" in row.theirs:
            for i in range(leaves[0].shape[0]):
                tensors[row.theirs.format(i=i)] = _join([to_theirs(x[i]) for x in leaves])
        else:
            tensors[row.theirs] = _join([to_theirs(x) for x in leaves])
    if homeless:
        raise UserError(
            f"{layout} weights: the layout has no place for the parameter {min(homeless)}; "
            "the model is of another kind"
        )
    return tensors


def _split(x: Any, count: int) -> list[Any]:
    return list(rearrange(x, "(n o) ... -> n o ...", n=count)) if count > 1 else [x]


def _join(parts: list[Any]) -> Any:
    return rearrange(parts, "n o ... -> (n o) ...") if len(parts) > 1 else parts[0]


def _same_names(layout: str, given: dict, expected: dict) -> None:
    missing, left = sorted(expected.keys() - given.keys()), sorted(given.keys() - expected.keys())
    if missing:
        raise UserError(f"{layout} weights: {missing[0]} is missing{_more(missing)}")
    if left:
        raise UserError(
            f"{layout} weights: {left[0]} has no place in the model{_more(left)}; "
            "take the settings from its own config"
        )


def _more(names: list[str]) -> str:
    return f", and {len(names) - 1} more" if len(names) > 1 else ""


def _table(layout: str) -> Layout:
    if layout not in LAYOUTS:
        raise UserError(f"no layout {layout!r} of weights{nearest(layout, LAYOUTS)}")
    return LAYOUTS[layout]
