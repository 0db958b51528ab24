"""Floating-point operations of a traced function."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jax.interpreters import partial_eval


class Flops(NamedTuple):
    """`trained` is the part of `total` whose operands depend on what is trained."""

    total: int = 0
    trained: int = 0

    def __add__(self, other: "Flops") -> "Flops":
        return Flops(self.total + other.total, self.trained + other.trained)

    def times(self, number: int) -> "Flops":
        return Flops(self.total * number, self.trained * number)


def count_flops(function: Callable, *args: Any) -> int:
    """FLOPs of the matrix products and convolutions of `function(*args)`, 2 a multiply-add, on all
    devices together.

    Walks the jaxpr without what no result depends on. A scan counts as often as it runs, the body
    of a `shard_map` on each of its devices; of branches the most expensive one counts. A `while`
    whose end is not known counts once. `args` may be abstract.
    """
    return _count(function, args, ()).total


def training_flops(function: Callable, trained: Any, *args: Any) -> int:
    """FLOPs to train what gives `function(trained, *args)`, its value alone: three times those that
    depend on `trained`, forward and both gradients, and once the rest, which is frozen."""
    flops = _count(function, (trained, *args), trained)
    return flops.total + 2 * flops.trained


def _count(function: Callable, args: tuple, trained: Any) -> Flops:
    jaxpr = jax.make_jaxpr(function)(*args).jaxpr
    marks = [i < len(jax.tree.leaves(trained)) for i in range(len(jaxpr.invars))]
    jaxpr, used = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    return _walk(jaxpr, [mark for mark, use in zip(marks, used, strict=True) if use])[0]


def _walk(jaxpr: Any, marks: Sequence[bool]) -> tuple[Flops, list[bool]]:
    """The FLOPs of a jaxpr whose inputs are marked as trained or not, and the marks of its
    results."""
    marked = {v for v, mark in zip(jaxpr.invars, marks, strict=True) if mark}
    flops = Flops()
    for equation in jaxpr.eqns:
        inputs = [not hasattr(v, "val") and v in marked for v in equation.invars]
        count, results = _of_equation(equation, inputs)
        flops += count
        marked.update(v for v, mark in zip(equation.outvars, results, strict=True) if mark)
    return flops, [not hasattr(v, "val") and v in marked for v in jaxpr.outvars]


def _of_equation(equation: Any, marks: list[bool]) -> tuple[Flops, list[bool]]:
    name, params = equation.primitive.name, equation.params
    any_marked = [any(marks)] * len(equation.outvars)
    if name in ("dot_general", "conv_general_dilated"):
        count = _of_product(equation) if name == "dot_general" else _of_convolution(equation)
        return Flops(count, count * any(marks)), any_marked
    if name == "scan":
        return _of_scan(params, marks)
    if name == "cond":
        walked = [_walk(branch.jaxpr, marks[1:]) for branch in params["branches"]]
        return max(count for count, _ in walked), any_marked
    inner = [p for p in params.values() if hasattr(p, "eqns") or hasattr(p, "jaxpr")]
    flops, results = Flops(), any_marked
    for part in inner:
        jaxpr = getattr(part, "jaxpr", part)
        same = len(jaxpr.invars) == len(marks)
        count, found = _walk(jaxpr, marks if same else [any(marks)] * len(jaxpr.invars))
        flops += count
        if same and len(found) == len(equation.outvars):
            results = found
    if name == "shard_map":
        flops = flops.times(math.prod(params["mesh"].shape[a] for a in params["newly_manual_axes"]))
    if name == "pallas_call":
        flops = flops.times(math.prod(params["grid_mapping"].grid))
    return flops, results


def _of_scan(params: dict, marks: list[bool]) -> tuple[Flops, list[bool]]:
    jaxpr, kept = params["jaxpr"].jaxpr, params["num_consts"]
    carried = slice(kept, kept + params["num_carry"])
    while True:  # what is carried is marked once any step marks it
        flops, results = _walk(jaxpr, marks)
        carry = results[: params["num_carry"]]
        grown = [a or b for a, b in zip(marks[carried], carry, strict=True)]
        if grown == list(marks[carried]):
            return flops.times(params["length"]), results
        marks = [*marks[:kept], *grown, *marks[carried.stop :]]


def _of_product(equation: Any) -> int:
    (contract, _), _ = equation.params["dimension_numbers"]
    left, out = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
    return 2 * math.prod(out) * math.prod(left[d] for d in contract)


def _of_convolution(equation: Any) -> int:
    kernel, out = equation.invars[1].aval.shape, equation.outvars[0].aval.shape
    out_channels = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
    return 2 * math.prod(out) * math.prod(kernel) // out_channels
