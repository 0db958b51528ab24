"""The real step compiled ahead of time for TPUs that are not there, and what it would send."""

import sys

import jax
import pytest

from multimodal import config, experiment, zoo
from multimodal.errors import UserError
from multimodal.parallel.collectives import collectives, is_ring, shapes
from multimodal.parallel.topology import tpu_devices
from tests.toy import replace, toy_config

V5E_BYTES = 16 * 2**30
# Only shares of the batch are multiples of 11.
BATCH, EMBED, SIZES = 176, 40, {"width": 48, "heads": 6, "mlp": 80}


@pytest.mark.parametrize(("name", "count"), [("v5e:4x4", 16), ("v6e:2x4", 8), ("v4:2x2x2", 8)])
def test_devices_by_name(name, count):
    devices = tpu_devices(name)
    assert len(devices) == count and {device.platform for device in devices} == {"tpu"}
    assert len({tuple(device.coords) for device in devices}) == count


@pytest.mark.parametrize("name", ["v5e:3x3", "v99:4x4", "nonsense", ""])
def test_an_unknown_topology_is_refused_in_one_line_with_examples(name):
    with pytest.raises(UserError, match="no TPU topology.*name one such as v5e:4x4") as error:
        tpu_devices(name)
    assert "\n" not in str(error.value)


def test_without_libtpu_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "libtpu", None)
    with pytest.raises(UserError, match=r"needs libtpu.*pip install 'jax\[tpu\]'"):
        tpu_devices("v5e:4x4")


def toy(loss, form="ring", **mesh):
    settings = toy_config("dual_encoder", batch_size=BATCH, mesh=config.MeshShape(**mesh))
    model = {"embed": EMBED, "logit_bias_init": -10.0 if loss == "sigmoid" else None}
    for tower in ("image", "text"):
        model |= {f"towers__{tower}__transformer__{name}": size for name, size in SIZES.items()}
    objective = "tasks__pairs__objectives__contrastive"
    changes = {f"{objective}__loss": loss, f"{objective}__form": form}
    return replace(settings, **changes | {f"model__{name}": x for name, x in model.items()})


def compiled(settings, topology):
    """The step of a run for a topology: its HLO, collectives and memory."""
    run = experiment.build(settings, tpu_devices(topology))
    with jax.set_mesh(run.mesh):
        (task,) = run.tasks.values()
        step = task.step.lower(run.abstract_state, run.abstract_batch()).compile()
    text = step.as_text()
    return text, collectives(text, run.mesh), step.memory_analysis()


def bytes_needed(memory):
    kept = memory.output_size_in_bytes - memory.alias_size_in_bytes
    program = memory.temp_size_in_bytes + memory.generated_code_size_in_bytes
    return memory.argument_size_in_bytes + kept + program


def dims(shape):
    return {size for size in shape if size % 11 == 0}


@pytest.mark.parametrize(
    ("loss", "mesh"),
    [
        ("softmax", {"data": -1}),
        ("sigmoid", {"data": -1}),
        ("softmax", {"data": 4, "fsdp": 4}),
        ("sigmoid", {"data": 4, "fsdp": 4}),
        ("sigmoid", {"data": 2, "fsdp": 2, "tensor": 2, "sequence": 2}),
    ],
)
def test_the_real_step_compiles_for_v5e_and_sends_no_more_than_it_must(loss, mesh):
    text, sent, memory = compiled(toy(loss, **mesh), "v5e:4x4")
    devices = 16 // (mesh.get("tensor", 1) * mesh.get("sequence", 1))
    batch, ring = BATCH // devices, {axis for axis in ("data", "fsdp") if axis in mesh}
    assert bytes_needed(memory) < V5E_BYTES

    # No device ever holds the whole batch: neither all logits nor one tower's embeddings.
    assert any(batch in shape for shape in shapes(text))
    assert not any(BATCH in shape for shape in shapes(text))

    travellers = [c for c in sent if c.kind == "collective-permute" and EMBED in c.shapes[0]]
    travellers = [c for c in travellers if c.axes == ring and is_ring(c.pairs, devices)]
    assert len({c.pairs for c in travellers}) == 2, "chunks go round in both directions"
    assert all(shape[0] == -(-batch // 2) for c in travellers for shape in c.shapes if shape)

    for c in sent:
        if c.kind in ("all-gather", "all-to-all") and any(map(dims, c.shapes)):
            # Activations: only keys and values, along the sequence, of this device's own heads.
            assert c.axes == {"sequence"}, c
            heads = {size // mesh["tensor"] for size in (SIZES["heads"], SIZES["width"])}
            assert all(heads & set(shape) for shape in c.shapes if dims(shape)), c
    gathers = {axis for c in sent if c.kind == "all-gather" for axis in c.axes}
    assert ("fsdp" in gathers) == ("fsdp" in mesh)
    assert any("data" in c.axes for c in sent if c.kind in ("all-reduce", "reduce-scatter"))


def test_the_dense_loss_would_be_seen():
    text, sent, _ = compiled(toy("sigmoid", "dense", data=-1), "v5e:4x4")
    assert any(BATCH in shape for shape in shapes(text))
    assert any(c.kind == "all-gather" and any(map(dims, c.shapes)) for c in sent)


@pytest.mark.slow
@pytest.mark.parametrize("mesh", [{"data": -1}, {"data": 16, "fsdp": 16}])
def test_siglip_b16_at_batch_32768_fits_v5e_16x16(mesh):
    named = zoo.siglip("B-16")
    settings = toy("sigmoid")
    values = config.to_dict(settings) | named
    values |= {"mesh": mesh, "batch_size": 32768, "dtype": "bfloat16"}
    values["preprocessing"] = config.to_dict(settings.preprocessing) | named["preprocessing"]
    settings = config.from_dict(config.Config, values)
    for tower in ("image", "text"):
        settings = replace(settings, **{f"model__towers__{tower}__transformer__keep": "inputs"})
    text, _, memory = compiled(settings, "v5e:16x16")
    print(f"{mesh}: {bytes_needed(memory) / 2**30:.2f} GiB a device")
    assert bytes_needed(memory) < V5E_BYTES / 2
    assert not any(32768 in shape for shape in shapes(text))
