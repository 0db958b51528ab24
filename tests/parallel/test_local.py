"""Microbatches on parameters in parts, against every device's work done one after the other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from multimodal.parallel.collectives import collectives
from multimodal.parallel.gather import Gather
from multimodal.parallel.local import Local
from multimodal.parallel.mesh import make_mesh
from tests.parallel.test_gather import MESH, settings
from tests.toy import build

MICROBATCHES, ROWS, DEVICES = 3, 16, 8
SPECS = {
    "matrix": PartitionSpec("fsdp", "data"),
    "bias": PartitionSpec("fsdp"),
    "scale": PartitionSpec(),
    "old": PartitionSpec(("data", "fsdp")),
}
SHAPES = {"matrix": (8, 6), "bias": (8,), "scale": (), "old": (8, 6)}


def apply(params, frozen, x, key):
    """Rows with dropout, and what depends on no row."""
    kept = jax.random.bernoulli(key, 0.5, x.shape)
    rows = (x * kept) @ (params["matrix"] + frozen["old"]) * params["scale"]
    return {"rows": rows + params["bias"][:6], "scale": params["scale"] ** 2}


def outputs_of_all(params, frozen, parts, keys):
    return jax.lax.map(lambda part: apply(params, frozen, *part), (parts, keys))


def gradient_of_all(params, frozen, parts, keys, pulls):
    def step(total, part):
        x, key, pull = part

        def product(params):
            outputs = apply(params, frozen, x, key)
            return sum(jax.tree.leaves(jax.tree.map(jnp.vdot, outputs, pull)))

        return jax.tree.map(jnp.add, total, jax.grad(product)(params)), 0.0

    return jax.lax.scan(step, jax.tree.map(jnp.zeros_like, params), (parts, keys, pulls))


def test_every_device_does_its_share_and_all_add_up():
    rng = np.random.default_rng(0)
    values = {name: rng.normal(size=shape).astype("f") for name, shape in SHAPES.items()}
    x = rng.normal(size=(MICROBATCHES, ROWS, 8)).astype("f")
    pulls = {"rows": rng.normal(size=(MICROBATCHES, ROWS, 6)).astype("f"), "scale": np.ones(3, "f")}
    keys = jax.random.split(jax.random.key(7), MICROBATCHES)
    params, frozen = (
        {k: values[k] for k in names} for names in (("matrix", "bias", "scale"), ("old",))
    )

    # Rows 0 and 1 are the first device's, and so on.
    own = [jax.vmap(jax.random.fold_in, (0, None))(keys, d) for d in range(DEVICES)]
    shares = [slice(2 * d, 2 * d + 2) for d in range(DEVICES)]
    each = [outputs_of_all(params, frozen, x[:, s], k) for s, k in zip(shares, own, strict=True)]
    rows = np.concatenate([o["rows"] for o in each], 1)
    pulled = lambda p: sum(  # noqa: E731
        jnp.vdot(pulls["rows"][:, s], outputs_of_all(p, frozen, x[:, s], k)["rows"])
        for s, k in zip(shares, own, strict=True)
    )
    gradient = jax.grad(lambda p: pulled(p) + MICROBATCHES * p["scale"] ** 2)(params)

    mesh = make_mesh(MESH)
    local = Local(Gather("float32", "float32", keep=True), SPECS)
    with jax.set_mesh(mesh):
        placed = {k: jax.device_put(v, NamedSharding(mesh, SPECS[k])) for k, v in values.items()}
        params, frozen = {k: placed[k] for k in params}, {k: placed[k] for k in frozen}
        seen = jax.jit(local.rows(outputs_of_all))(params, frozen, x, keys)
        found, figures = jax.jit(local.sums(gradient_of_all))(params, frozen, x, keys, pulls)
    np.testing.assert_allclose(seen["rows"], rows, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(seen["scale"], np.full(3, values["scale"] ** 2), rtol=1e-6)
    assert not np.any(figures)
    for path, want in gradient.items():
        np.testing.assert_allclose(found[path], want, rtol=1e-5, atol=1e-5)
        assert found[path].sharding.spec == SPECS[path]


def test_parameters_travel_as_often_for_many_microbatches_as_for_few():
    sent = []
    for accumulate in (2, 4):
        run = build(settings("step", batch_size=32, accumulate=accumulate), 8, **MESH)
        with jax.set_mesh(run.mesh):
            step = run.tasks["pairs"].step.lower(run.abstract_state, run.abstract_batch())
            found = collectives(step.compile().as_text(), run.mesh)
        sent.append({c.kind: 0 for c in found})
        for c in found:
            sent[-1][c.kind] += c.bytes * c.times
    for kind in ("all-gather", "reduce-scatter"):
        assert sent[0][kind] == sent[1][kind] > 0
    assert sent[1]["all-reduce"] == pytest.approx(sent[0]["all-reduce"], rel=0.02)
