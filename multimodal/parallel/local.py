"""Microbatches on parameters in parts: every device walks through its own share of all of them with
parameters gathered once, and gradients are added up across devices once, at the end."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.sharding import PartitionSpec

from multimodal.parallel.gather import Gather, Part, by_examples, part, scatter, whole
from multimodal.parallel.rules import BATCH

Tree = Any
Params = Mapping[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Local:
    """Runs functions of (params, frozen, microbatches, keys, ...) on every device's own rows.

    `specs` place the parameters, by path. Microbatches, outputs and their pulls are
    [microbatches, rows, ...], of which each device has its share of the rows; keys, and outputs
    that depend on no example, are [microbatches].
    """

    settings: Gather
    specs: Mapping[str, PartitionSpec]

    def rows(self, function: Callable) -> Callable:
        """`function` as it is, which returns outputs."""

        def local(params, frozen, microbatches, keys):
            params, frozen = (whole(self._parts(p)) for p in (params, frozen))
            outputs = function(params, frozen, microbatches, _own(keys))
            return jax.tree.map(lambda x: x if x.ndim > 1 else jax.lax.pmean(x, BATCH), outputs)

        def run(params, frozen, microbatches, keys):
            outputs = jax.eval_shape(function, params, frozen, microbatches, keys)
            return self._map(local, _by_rows(outputs), params, frozen, microbatches, keys)

        return run

    def sums(self, function: Callable) -> Callable:
        """`function`, given pulls too, which returns (gradient for params, figures): the gradient
        summed over all devices, float32, in the parts that the parameters have. Figures must be
        the same everywhere."""

        def local(params, frozen, microbatches, keys, pulls):
            parts, frozen = self._parts(params), whole(self._parts(frozen))
            # Every device pulls at what all of them have.
            shared = lambda x: x / jax.lax.axis_size(BATCH)  # noqa: E731
            pulls = jax.tree.map(lambda x: x if x.ndim > 1 else shared(x), pulls)
            given = {path: _given(x) for path, x in parts.items()}
            gradient, figures = function(given, frozen, microbatches, _own(keys), pulls)
            return {path: self._sum(parts[path], g) for path, g in gradient.items()}, figures

        def run(params, frozen, microbatches, keys, pulls):
            given = (params, frozen, microbatches, keys, pulls)
            _, figures = jax.eval_shape(function, *given)
            out = self._placed(params), jax.tree.map(lambda x: PartitionSpec(), figures)
            return self._map(local, out, *given)

        return run

    def _parts(self, params: Params) -> dict[str, Part | jax.Array]:
        return {path: part(x, self.specs[path], self.settings) for path, x in params.items()}

    def _placed(self, params: Params) -> dict[str, PartitionSpec]:
        return {path: PartitionSpec(*by_examples(self.specs[path])) for path in params}

    def _sum(self, x: Part | jax.Array, gradient: jax.Array) -> jax.Array:
        if not isinstance(x, Part):
            return jax.lax.psum(gradient, BATCH)
        reduce = self.settings.reduce if x.value.ndim > 1 else "float32"
        return scatter(gradient, x.dims, reduce)

    def _map(self, function, out_specs, params, frozen, microbatches, keys, *pulls) -> Tree:
        return jax.shard_map(
            function,
            in_specs=(
                self._placed(params),
                self._placed(frozen),
                _by_rows(microbatches),
                PartitionSpec(),
                *map(_by_rows, pulls),
            ),
            out_specs=out_specs,
            axis_names=set(BATCH),
        )(params, frozen, microbatches, keys, *pulls)


def _by_rows(tree: Tree) -> Tree:
    spec = lambda x: PartitionSpec(None, BATCH) if x.ndim > 1 else PartitionSpec()  # noqa: E731
    return jax.tree.map(spec, tree)


def _own(keys: jax.Array) -> jax.Array:
    """A device's own random numbers."""
    fold = lambda key: jax.random.fold_in(key, jax.lax.axis_index(BATCH))  # noqa: E731
    return jax.vmap(fold)(keys)


def _given(x: Part | jax.Array) -> jax.Array:
    """A parameter gathered, as each device's own even where it is the same everywhere, so that its
    gradient is the device's own."""
    return whole(x) if isinstance(x, Part) else jax.lax.pcast(x, BATCH, to="varying")
