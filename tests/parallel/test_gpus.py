"""Names of GPUs to compile for, and what is said without jax's plugin for them."""

import importlib.util

import pytest

from multimodal.errors import UserError
from multimodal.parallel import gpus
from multimodal.parallel.topology import devices_of


@pytest.fixture
def plugin(monkeypatch):
    """Is the plugin there? Asked for, its topology is recorded and made of numbers."""
    asked = []

    def describe(name, **options):
        asked.append(options)
        _, nodes, each = map(int, options["topology"].split("x"))
        return type("Topology", (), {"devices": list(range(nodes * each))})

    found = importlib.util.find_spec
    monkeypatch.setattr(gpus.topologies, "get_topology_desc", describe)
    monkeypatch.setattr(
        gpus.importlib.util, "find_spec", lambda n: n if "jax_cuda" in n else found(n)
    )
    return asked


@pytest.mark.parametrize(("name", "shape"), [("h100:8", "1x1x8"), ("a100:4x8", "1x4x8")])
def test_nodes_and_gpus(name, shape, plugin):
    assert len(devices_of(name)) == eval(shape.replace("x", "*"))
    assert plugin[0]["topology"] == shape and plugin[0]["platform"] == "cuda"
    assert gpus._KIND[name.split(":")[0]] in plugin[0]["target_config"]


@pytest.mark.parametrize("name", ["h100:", "h100:0", "h100:0x8", "h100:2x2x2", "h100:x8"])
def test_other_forms_are_refused(name, plugin):
    with pytest.raises(UserError, match="no GPU topology.*h100:8 or h100:4x8"):
        devices_of(name)


def test_without_the_plugin_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr(gpus.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"CUDA plugin.*pip install 'jax\[cuda13\]'"):
        devices_of("h200:8")


@pytest.mark.parametrize("name", ["h100:8", "cpu:8"])
def test_slices_are_of_tpus(name):
    with pytest.raises(UserError, match="has no slices"):
        devices_of(name, slices=2)


@pytest.mark.parametrize("name", ["cpu:", "cpu:x", "cpu:0"])
def test_simulated_devices_are_counted(name):
    assert len(devices_of("cpu:8")) == 8
    with pytest.raises(UserError, match="say how many"):
        devices_of(name)


def test_no_more_simulated_devices_than_there_are():
    with pytest.raises(UserError, match="has 8 CPU devices"):
        devices_of("cpu:4096")
