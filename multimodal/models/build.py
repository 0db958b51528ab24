"""From settings to a graph and a flat dictionary of parameters by path."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from flax import nnx

from multimodal import config
from multimodal.models.bert import Bert
from multimodal.models.classifier import Classifier
from multimodal.models.coca import CoCa
from multimodal.models.dual_encoder import DualEncoder
from multimodal.models.prefix_lm import PrefixLM
from multimodal.models.rngs import Rngs
from multimodal.models.siglip2 import Siglip2
from multimodal.models.uniter import Uniter
from multimodal.preprocessing import Preprocessing

MODELS = {
    config.DualEncoder: DualEncoder,
    config.Siglip2: Siglip2,
    config.Classifier: Classifier,
    config.CoCa: CoCa,
    config.Bert: Bert,
    config.Uniter: Uniter,
    config.PrefixLM: PrefixLM,
}

Params = dict[str, jax.Array]


class Model(NamedTuple):
    """A model with its parameters left out.

    `axes` names the logical axis of each dimension of each parameter, by path; `largest` holds the
    few paths whose values a step keeps from growing beyond a limit. `plain` makes the module's own
    parameters of those that are trained, where these are others (LoRA).
    """

    graph: nnx.GraphDef
    axes: dict[str, tuple[str | None, ...]]
    largest: dict[str, float]
    init: Callable[[jax.Array], Params]
    plain: Callable[[Params], Params] = lambda params: params

    def bind(self, params: Params) -> Any:
        """The module with these parameters, for one call inside a pure function."""
        return nnx.merge(self.graph, nested(self.plain(params)))

    def shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
        return dict(_shapes(self.init))

    @property
    def stacked(self) -> frozenset[str]:
        """Paths of parameters with a leading layers axis."""
        return frozenset(path for path, axes in self.axes.items() if axes[:1] == ("layers",))


def build(settings: config.Model, preprocessing: Preprocessing, dtype: str) -> Model:
    """The model of `settings`; nothing is computed or allocated yet."""
    kind = MODELS[type(settings)]

    def make(key: jax.Array) -> nnx.Module:
        return kind(settings, preprocessing, dtype, rngs=Rngs(key))

    graph, state = nnx.split(nnx.eval_shape(lambda: make(jax.random.key(0))))
    axes = {path: leaf.get_metadata("axes") for path, leaf in _leaves(state)}
    limits = {path: leaf.get_metadata("largest") for path, leaf in _leaves(state)}
    largest = {path: limit for path, limit in limits.items() if limit is not None}

    def init(key: jax.Array) -> Params:
        return {path: leaf[...] for path, leaf in _leaves(nnx.state(make(key)))}

    return Model(graph, axes, largest, init)


@functools.lru_cache(maxsize=8)  # each run asks many times
def _shapes(init: Callable[[jax.Array], Params]) -> dict[str, jax.ShapeDtypeStruct]:
    return jax.eval_shape(lambda: init(jax.random.key(0)))


def nested(params: Params) -> dict:
    """{"a/b": x} to {"a": {"b": x}}."""
    tree: dict = {}
    for path, leaf in params.items():
        *parents, name = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = leaf
    return tree


def _leaves(state: nnx.State) -> list[tuple[str, nnx.Variable]]:
    flat = [("/".join(map(str, path)), leaf) for path, leaf in nnx.to_flat_state(state)]
    return sorted(flat, key=lambda item: item[0])
