"""The text of a program that jaxlib cannot read back."""

import jax
import jax.numpy as jnp
import pytest

from multimodal.parallel.hlo import parse
from multimodal.planning.program import _text


class Unreadable:
    def __init__(self, told):
        self.told = told

    def as_text(self):
        raise jax.errors.JaxRuntimeError(self.told)


def lowered():
    return jax.jit(lambda x: jnp.sin(x) @ x).lower(jnp.ones((8, 8)))


def test_it_is_read_from_the_compilers_own_files():
    text = _text(lowered(), Unreadable("INTERNAL: RET_CHECK failure"))
    own = lowered().compile().as_text()
    seen, want = ([i.opcode for _, i, _ in parse(t).walk()] for t in (text, own))
    assert seen == want and len(want) > 2


def test_another_error_is_not_hidden():
    with pytest.raises(jax.errors.JaxRuntimeError, match="no room"):
        _text(lowered(), Unreadable("no room"))
