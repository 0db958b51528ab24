"""Parameters in parts: the same step as the compiler's, less memory, and traffic by closed form."""

import functools
import math

import jax
import numpy as np
import pytest

from multimodal.errors import UserError
from multimodal.parallel.collectives import collectives
from multimodal.parallel.gather import Gather, Part, kept
from multimodal.parallel.mesh import make_mesh
from multimodal.parallel.processes import to_global
from multimodal.parallel.rules import parameter_spec
from tests.toy import build, host_batch, replace, run_steps, toy_config

TOWERS = ("image", "text")
MESH = {"data": 2, "fsdp": 4}


def settings(gather, family="dual_encoder", keep="inputs", **changes):
    kept = {f"model__towers__{t}__transformer__keep": keep for t in TOWERS}
    return replace(
        toy_config(family),
        gather=gather,
        **(kept if family == "dual_encoder" else {}),
        **{"batch_size": 16, **changes},
    )


def two_steps(config, devices, **mesh):
    run = build(config, devices, **mesh)
    batches = [to_global(host_batch(config, seed, broken=1), run.mesh) for seed in (0, 1)]
    return run_steps(run, batches)


@functools.cache
def two_steps_on_one_device():
    return two_steps(settings("compiler"), 1)


@pytest.mark.parametrize(
    ("gather", "mesh", "accumulate"),
    [("step", MESH, 2), ("layer", {"data": 2, "fsdp": 2, "tensor": 2}, 1)],
)
def test_the_same_step_as_on_one_device(gather, mesh, accumulate):
    state, figures = two_steps_on_one_device()
    other, seen = two_steps(settings(gather, accumulate=accumulate), 8, **mesh)
    assert figures["loss"] == pytest.approx(seen["loss"], rel=1e-5)
    assert figures["gradient_norm"] == pytest.approx(seen["gradient_norm"], rel=1e-4)
    # The means of the gradients: parameters move by whole steps where a gradient is all rounding.
    for path, mean in state.opt_state[1].mu.items():
        mean, found = np.asarray(mean), np.asarray(other.opt_state[1].mu[path])
        np.testing.assert_allclose(found, mean, atol=3e-5 * np.abs(mean).max() + 1e-7)


def test_gradients_travel_as_the_recipe_says():
    """Added up in bfloat16 they differ from those in float32, and by no more than its digits."""
    norms = {}
    for reduce in ("float32", "bfloat16"):
        _, figures = two_steps(settings("step", reduce=reduce), 8, **MESH)
        norms[reduce] = figures["gradient_norm"]
    assert norms["bfloat16"] != norms["float32"]
    assert norms["bfloat16"] == pytest.approx(norms["float32"], rel=2e-2)


def compiled(config):
    run = build(config, 8, **MESH)
    with jax.set_mesh(run.mesh):
        step = run.tasks["pairs"].step.lower(run.abstract_state, run.abstract_batch())
        step = step.compile()
    return run, step


def test_all_devices_share_the_state_and_traffic_is_what_it_must_be():
    sent, state_bytes = {}, {}
    for gather in ("compiler", "step", "layer"):
        run, step = compiled(settings(gather))
        sent[gather] = collectives(step.as_text(), run.mesh)
        leaves = zip(
            jax.tree.leaves(run.abstract_state), jax.tree.leaves(run.shardings), strict=True
        )
        state_bytes[gather] = sum(math.prod(s.shard_shape(x.shape)) * 4 for x, s in leaves)
    assert state_bytes["step"] == state_bytes["layer"] < 0.56 * state_bytes["compiler"]

    shapes = run.model.shapes()
    split = {p: x.size for p, x in shapes.items() if any(run.shardings.params[p].spec)}
    once = 4 * sum(split.values())
    # The backward pass needs matrices again, but no biases.
    again = [p for p in split if p in run.model.stacked and p.endswith("kernel")]
    twice = once + 4 * sum(split[p] for p in again)

    def gathered(gather, kind):
        # The last of two gathers makes the whole array; the first, a part of it.
        return sum(c.bytes * c.times for c in sent[gather] if c.kind == kind)

    for gather, least in (("step", once), ("layer", twice)):
        assert least <= gathered(gather, "all-gather") <= 1.6 * least, gather
        assert once <= gathered(gather, "reduce-scatter") <= 1.6 * once, gather
        reduced = sum(c.bytes * c.times for c in sent[gather] if c.kind == "all-reduce")
        assert reduced < 0.1 * once, "gradients are not added up on every device"


def test_one_dimension_too_small_for_all_devices_leaves_the_rest_to_another():
    mesh = make_mesh({"data": 2, "fsdp": 4})
    both = ("fsdp", "data")
    axes = ("layers", "embed", "mlp")
    assert tuple(parameter_spec(axes, (3, 12, 34), mesh, both)) == (None, "fsdp", "data")
    assert tuple(parameter_spec(axes, (3, 16, 34), mesh, both)) == (None, ("fsdp", "data"), None)
    assert tuple(parameter_spec(axes, (3, 12, 35), mesh, both)) == (None, "fsdp", None)


def test_what_a_rematerialised_layer_keeps():
    keeping, letting_go = (
        {"w": Part(np.zeros(4), ((-1, "fsdp"),), Gather("float32", "float32", keep))}
        for keep in (True, False)
    )
    nothing = jax.checkpoint_policies.nothing_saveable
    assert kept(nothing, {"w": np.zeros(4)}) is nothing
    assert kept(nothing, letting_go) is nothing
    assert kept(None, keeping) is None
    assert kept(None, letting_go) is not None


def test_a_model_whose_outputs_are_not_rows_is_refused():
    run = build(settings("step", "siglip2"), 8, **MESH)
    with jax.set_mesh(run.mesh), pytest.raises(UserError, match="only 'compiler' works for this"):
        task = next(iter(run.tasks.values()))
        task.step.lower(run.abstract_state, run.abstract_batch())
