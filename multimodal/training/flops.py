"""Floating-point operations of a traced function, and what devices can do in a second."""

import math
from collections.abc import Callable
from typing import Any

import jax

# Dense bfloat16 FLOP/s by jax's device_kind, from the vendors' data sheets.
PEAK_FLOPS = {
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5": 459e12,
    "TPU v5p": 459e12,
    "TPU v6 lite": 918e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H200": 989e12,
}


def count_flops(function: Callable, *args: Any) -> int:
    """FLOPs of the matrix products and convolutions of `function(*args)`, 2 a multiply-add.

    Walks the jaxpr, so a scan counts as often as it runs; `args` may be abstract.
    """
    return _of_jaxpr(jax.make_jaxpr(function)(*args).jaxpr)


def _of_jaxpr(jaxpr: Any) -> int:
    return sum(_of_equation(equation) for equation in jaxpr.eqns)


def _of_equation(equation: Any) -> int:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contract, _), _ = params["dimension_numbers"]
        left = equation.invars[0].aval.shape
        out = equation.outvars[0].aval.shape
        return 2 * math.prod(out) * math.prod(left[d] for d in contract)
    if name == "conv_general_dilated":
        kernel, out = equation.invars[1].aval.shape, equation.outvars[0].aval.shape
        out_channels = kernel[params["dimension_numbers"].rhs_spec[0]]
        return 2 * math.prod(out) * math.prod(kernel) // out_channels
    if name == "cond":
        return max(_of_jaxpr(branch.jaxpr) for branch in params["branches"])
    inner = [p for p in params.values() if hasattr(p, "eqns") or hasattr(p, "jaxpr")]
    times = params["length"] if name == "scan" else 1
    return times * sum(_of_jaxpr(getattr(p, "jaxpr", p)) for p in inner)
