"""Names of leaves, and what differs between two sets of them."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest

from multimodal.checkpoint.tree import abstract, flatten, misfits


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class State:
    step: Any
    params: Any
    opt_state: Any
    ema: Any


def test_leaves_are_named_by_path_whatever_holds_them():
    params = {"text/embed": jnp.zeros((3, 2)), "scale": jnp.zeros(())}
    state = State(jnp.int32(0), params, optax.adam(1e-3).init(params), None)
    assert sorted(flatten(state)) == [
        "opt_state/0/count",
        "opt_state/0/mu/scale",
        "opt_state/0/mu/text/embed",
        "opt_state/0/nu/scale",
        "opt_state/0/nu/text/embed",
        "params/scale",
        "params/text/embed",
        "step",
    ]


def test_two_leaves_of_one_name_are_refused():
    with pytest.raises(ValueError, match="same path"):
        flatten({"a": {"b": jnp.zeros(2)}, "a/b": jnp.zeros(3)})


def test_misfits_are_counted_once_each():
    leaf = abstract(jnp.zeros((2, 3), jnp.bfloat16))
    assert leaf == [[2, 3], "bfloat16"]
    assert misfits({"x": leaf, "y": leaf}, {"x": leaf, "y": leaf}) == []
    assert misfits({"x": leaf}, {"y": leaf}) == [
        "y (2, 3) is wanted but was not saved",
        "x was saved but has no place",
    ]
