"""Loss and gradient of a task over a batch, at once or in microbatches that share one loss."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import jax
import jax.numpy as jnp

from multimodal.models.build import Params
from multimodal.objectives.objective import Batch, Metrics, Objective
from multimodal.parallel.local import Local
from multimodal.parallel.rules import constrain

Apply = Callable[[Params, Batch, jax.Array], dict]


def loss_and_gradient(
    apply: Apply,
    objectives: Mapping[str, Objective],
    params: Params,
    batch: Batch,
    key: jax.Array,
    microbatches: int = 1,
    frozen: Params = MappingProxyType({}),
    local: Local | None = None,
) -> tuple[jax.Array, Metrics, Params]:
    """The weighted sum of the objectives, their figures by name, and the gradient for `params`.

    `apply(params | frozen, batch, key)` gives the model's outputs. With several microbatches the
    result is still that of the whole batch: outputs that joint objectives read are computed once
    for all microbatches without keeping activations, the loss and its gradient with respect to
    them are taken over the whole batch, and the model is run again, one microbatch at a time with
    the same random numbers, to carry that gradient to the parameters (Gao et al. 2021, gradient
    caching). With `local`, which takes joint objectives alone, each device adds up the gradients
    of its own share of all microbatches, and the devices meet once.
    """
    if microbatches == 1:

        def whole_loss(params):
            return _add_up(objectives, apply({**params, **frozen}, batch, key), batch, batch)

        (loss, metrics), gradient = jax.value_and_grad(whole_loss, has_aux=True)(params)
        return loss, metrics, gradient

    joint = {name: o for name, o in objectives.items() if o.joint}
    separable = {name: o for name, o in objectives.items() if not o.joint}
    read = {entry for o in joint.values() for entry in o.reads}
    parts = jax.tree.map(lambda x: _split(x, microbatches), batch)
    keys = jax.random.split(key, microbatches)

    def outputs_of_all(params, frozen, parts, keys):
        def cache(_, part):
            outputs = apply({**params, **frozen}, *part)
            return None, {entry: outputs[entry] for entry in read}

        return jax.lax.scan(cache, None, (parts, keys))[1]

    def joint_loss(cached):
        return _add_up(joint, jax.tree.map(_join, cached), batch, batch)

    def gradient_of_all(params, frozen, parts, keys, pulls):
        def carry_back(total, part):
            microbatch, key, pull = part

            def surrogate(params):
                outputs = apply({**params, **frozen}, microbatch, key)
                loss, metrics = _add_up(separable, outputs, microbatch, batch)
                read_outputs = {entry: outputs[entry] for entry in pull}
                products = jax.tree.map(jnp.vdot, read_outputs, pull)
                return loss + sum(jax.tree.leaves(products), 0.0), (loss, metrics)

            gradient, figures = jax.grad(surrogate, has_aux=True)(params)
            return jax.tree.map(jnp.add, total, gradient), figures

        zeros = jax.tree.map(lambda x: jnp.zeros_like(x, jnp.float32), params)
        return jax.lax.scan(carry_back, zeros, (parts, keys, pulls))

    if local is not None:
        outputs_of_all, gradient_of_all = local.rows(outputs_of_all), local.sums(gradient_of_all)
    cached = outputs_of_all(params, frozen, parts, keys)
    (loss, metrics), pulls = jax.value_and_grad(joint_loss, has_aux=True)(cached)
    gradient, figures = gradient_of_all(params, frozen, parts, keys, pulls)
    more, more_metrics = jax.tree.map(lambda x: x.sum(0), figures)
    return loss + more, metrics | more_metrics, gradient


def in_microbatches(function: Callable[[Batch], dict], batch: Batch, microbatches: int) -> dict:
    """Outputs of `function` for the whole batch, computed one microbatch after the other; those
    without a batch dimension must be scalars."""
    if microbatches == 1:
        return function(batch)
    parts = jax.tree.map(lambda x: _split(x, microbatches), batch)
    return jax.tree.map(_join, jax.lax.map(function, parts))


def _add_up(
    objectives: Mapping[str, Objective], outputs: dict, batch: Batch, whole: Batch
) -> tuple[jax.Array, Metrics]:
    total, metrics = jnp.zeros(()), {}
    for name, objective in objectives.items():
        loss, figures = objective.loss(outputs, batch, whole)
        total += objective.weight * loss
        metrics |= {name: loss} | {f"{name}/{k}": v for k, v in figures.items()}
    return total, metrics


def _split(x: jax.Array, parts: int) -> jax.Array:
    """[batch, ...] to [parts, batch / parts, ...] with every parts-th example together, so that a
    batch split over devices needs no traffic."""
    x = x.reshape(x.shape[0] // parts, parts, *x.shape[1:]).swapaxes(0, 1)
    return constrain(x, None, "batch", *[None] * (x.ndim - 2))


def _join(x: jax.Array) -> jax.Array:
    """The inverse, for outputs; a scalar that every microbatch repeats becomes one again."""
    if x.ndim == 1:
        return x.mean()
    x = x.swapaxes(0, 1)
    x = x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])
    return constrain(x, "batch", *[None] * (x.ndim - 1))
