"""Where the dual encoder's real step puts things on 8 devices, against closed forms."""

import functools
import math
import re
from collections import Counter, defaultdict
from unittest import mock

import jax
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params
from jax.sharding import PartitionSpec

from multimodal.models import attention as attention_module
from multimodal.parallel.collectives import collectives
from multimodal.parallel.mesh import AXES
from tests.toy import build, replace, toy_config

MESHES = {
    "data=8": {"data": 8},
    "fsdp=8": {"fsdp": 8},
    "data=2 x fsdp=2 x tensor=2": {"data": 2, "fsdp": 2, "tensor": 2},
    "fsdp=4 x tensor=2": {"fsdp": 4, "tensor": 2},
    "data=2 x sequence=4": {"data": 2, "sequence": 4},
}
# Every size tells what it is of: only shares of the batch are multiples of 11, and weights
# divide by 8 along each dimension but those of one or two rows.
BATCH, WIDTH, HEADS, HEAD_DIM, MLP, EMBED, DEPTH = 88, 48, 6, 8, 80, 40, 2
LENGTHS = {"image": 16, "text": 32}
VOCAB = 272


def settings(**changes):
    model = {"embed": EMBED, "towers__text__vocab_size": VOCAB}
    sizes = {"width": WIDTH, "heads": HEADS, "mlp": MLP, "depth": DEPTH}
    for tower in LENGTHS:
        model |= {f"towers__{tower}__transformer__{name}": size for name, size in sizes.items()}
    changes = {f"model__{name}": value for name, value in model.items()} | changes
    return replace(toy_config("dual_encoder", batch_size=BATCH), **changes)


def sizes_of(mesh):
    return {axis: MESHES[mesh].get(axis, 1) for axis in AXES}


def built(mesh, **changes):
    return build(settings(**changes), 8, **({"data": 1} | MESHES[mesh]))


def compiled(mesh):
    """The step's collectives; and of each attention, the share of a device of q, k, v, the output
    and the weights, asked of the partitioner while it compiles the step with its backward pass."""
    seen = []

    def spy(q, k, v, **options):
        out, weights = attention(q, k, v, **options)
        seen.append(shares := {"shape": weights.shape})

        def note(name, shape, sharding):
            shares[name] = sharding.shard_shape(shape)

        for name, x in {"q": q, "k": k, "v": v, "out": out, "weights": weights}.items():
            jax.debug.inspect_array_sharding(
                jax.lax.stop_gradient(x), callback=functools.partial(note, name, x.shape)
            )
        return out, weights

    attention = attention_module.attention
    run = built(mesh)
    with mock.patch.object(attention_module, "attention", spy), jax.set_mesh(run.mesh):
        lowered = run.tasks["pairs"].step.lower(run.abstract_state, run.abstract_batch())
        text = lowered.compile().as_text()
    # What is traced again is not compiled again, and gets no shares.
    return collectives(text, run.mesh), [shares for shares in seen if "q" in shares]


SPLIT_BY_TENSOR = (
    r"attention/(query|key|value)/(kernel|bias)$|attention/out/kernel$"
    r"|mlp/up/(kernel|bias)$|mlp/down/kernel$|tokens/table$"
)


def share(path, shape, mesh):
    """Numbers of a parameter that one device holds: everything is split over fsdp, and what belongs
    to heads, hidden units or words also over tensor. Scalars are whole."""
    if not shape:
        return 1
    tensor = mesh["tensor"] if re.search(SPLIT_BY_TENSOR, path) else 1
    assert math.prod(shape) % (mesh["fsdp"] * tensor) == 0
    return math.prod(shape) // (mesh["fsdp"] * tensor)


def bytes_per_device(tree):
    total = defaultdict(int)
    for leaf in jax.tree.leaves(tree):
        for shard in leaf.addressable_shards:
            total[shard.device.id] += shard.data.nbytes
    return set(total.values())


@pytest.mark.parametrize(
    ("mesh", "optimizer", "moments"),
    [*((mesh, "adamw", 2) for mesh in MESHES), ("data=2 x fsdp=2 x tensor=2", "lion", 1)],
)
def test_bytes_of_parameters_and_optimiser_state_on_every_device(mesh, optimizer, moments):
    run = built(mesh, optimizer__name=optimizer)
    with jax.set_mesh(run.mesh):
        state = run.initialise()
    numbers = sum(share(path, x.shape, sizes_of(mesh)) for path, x in state.params.items())
    assert bytes_per_device(state.params) == {4 * numbers}
    counters = [x for x in jax.tree.leaves(state.opt_state) if x.ndim == 0 and x.dtype == np.int32]
    assert bytes_per_device(state.opt_state) == {4 * (moments * numbers + len(counters))}


def is_activation(shape):
    return any(size % 11 == 0 for size in shape)


@pytest.mark.parametrize("mesh", MESHES)
def test_attention_keeps_to_its_share_and_no_collective_gathers_heads_or_examples(mesh):
    m = sizes_of(mesh)
    batch, heads = BATCH // (m["data"] * m["fsdp"]), HEADS // m["tensor"]
    sent, seen = compiled(mesh)
    found = {shares["shape"][-2:]: shares for shares in seen}
    # The one query of the picture's pooler is on every device, with a part of the keys.
    lengths = {(n, n): (n // m["sequence"], n) for n in LENGTHS.values()}
    lengths[1, 16] = (1, 16 // m["sequence"])
    assert found.keys() == lengths.keys()
    for shape, (queries, keys) in lengths.items():
        for name, length in {"q": queries, "k": keys, "v": keys, "out": queries}.items():
            assert found[shape][name] == (batch, length, heads, HEAD_DIM), (shape, name)
        assert found[shape]["weights"] == (batch, heads, queries, keys), shape

    assert sent
    for c in sent:
        activations = [shape for shape in c.shapes if is_activation(shape)]
        if c.kind in ("all-gather", "all-to-all") and activations:
            # Keys and values of the whole sequence, of this device's own heads.
            assert c.axes == {"sequence"}, c
        assert not any(size % 11 == 0 and size > batch for shape in activations for size in shape)
    rings = {c.axes for c in sent if c.kind == "collective-permute" and EMBED in c.shapes[0]}
    assert {axis for axis in ("data", "fsdp") if m[axis] > 1} in rings


def test_gathered_heads_would_be_seen():
    """The same question to a step whose keys are pinned whole finds the gather."""

    def gathered(x, *axes):
        return constrain(x, *[None if axis == "heads" else axis for axis in axes])

    constrain = attention_module.constrain
    run = built("fsdp=4 x tensor=2")
    with mock.patch.object(attention_module, "constrain", gathered), jax.set_mesh(run.mesh):
        lowered = run.tasks["pairs"].step.lower(run.abstract_state, run.abstract_batch())
        found = collectives(lowered.compile().as_text(), run.mesh)
    assert any(
        c.kind == "all-gather" and "tensor" in c.axes and any(map(is_activation, c.shapes))
        for c in found
    )


def constraints(jaxpr, times=1):
    """How often each PartitionSpec is asked for when the program runs, scans counted out; and how
    many of those are inside scans."""
    everywhere, scanned = Counter(), Counter()
    for equation in jaxpr.eqns:
        if equation.primitive.name == "sharding_constraint":
            everywhere[equation.params["sharding"].spec] += times
        scan = equation.primitive.name == "scan"
        inner_times = times * (equation.params["length"] if scan else 1)
        for inner in jaxprs_in_params(equation.params):
            found, found_scanned = constraints(getattr(inner, "jaxpr", inner), inner_times)
            everywhere += found
            scanned += found if scan else found_scanned
    return everywhere, scanned


@pytest.mark.parametrize("mesh", MESHES)
def test_constraints_are_in_the_jaxpr_of_the_step(mesh):
    m = sizes_of(mesh)
    batch = tuple(axis for axis in ("data", "fsdp") if m[axis] > 1)
    batch = batch[0] if len(batch) == 1 else batch
    length = "sequence" if m["sequence"] > 1 else None
    tensor = "tensor" if m["tensor"] > 1 else None
    layer = Counter()
    layer[PartitionSpec(batch, length, tensor, None)] += 1  # queries
    layer[PartitionSpec(batch, None, tensor, None)] += 2  # keys, values
    layer[PartitionSpec(batch, length, tensor)] += 2  # attention's output, hidden units
    layer[PartitionSpec(batch, length, None)] += 2  # after each of the two branches
    blocks = Counter({spec: 2 * DEPTH * count for spec, count in layer.items()})
    rest = Counter()
    rest[PartitionSpec(batch, length, None)] += 2  # patches, words
    rest[PartitionSpec(None, None)] += 1  # the table of words
    rest[PartitionSpec(batch, None, tensor, None)] += 1  # the pooler: its one query,
    rest[PartitionSpec(batch, length, tensor, None)] += 2  # keys, values,
    rest[PartitionSpec(batch, None, tensor)] += 2  # output and hidden units,
    rest[PartitionSpec(batch, None, None)] += 2  # and after each branch
    rest[PartitionSpec(batch, None)] += 2  # embeddings

    run = built(mesh)
    with jax.set_mesh(run.mesh):
        traced = run.tasks["pairs"].step.trace(run.abstract_state, run.abstract_batch())
    everywhere, scanned = constraints(traced.jaxpr.jaxpr)
    # The backward pass asks for each once more.
    assert scanned == Counter({spec: 2 * count for spec, count in blocks.items()})
    assert everywhere == Counter({spec: 2 * count for spec, count in (blocks + rest).items()})
