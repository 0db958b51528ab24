"""Low-rank adaptation, against x W + s (x A) B in float64 and against training by hand."""

import dataclasses

import jax
import numpy as np
import pytest

from multimodal import config
from multimodal.checkpoint.bundle import Checkpoints
from multimodal.config import Lora, Rule
from multimodal.errors import UserError
from multimodal.evaluate import restore
from multimodal.finetune import lora
from multimodal.training.optimizer import multipliers
from tests.finetune.test_start import save
from tests.toy import build, host_batch, replace, run_steps, toy_config

SETTINGS = Lora(("towers/.*/kernel",), rank=2, alpha=6.0)
RUN = replace(toy_config(batch_size=8), lora=SETTINGS)
UP = "towers/image/stack/blocks/mlp/up/kernel"


@pytest.fixture(scope="module")
def run():
    return build(RUN)


@pytest.fixture(scope="module")
def trained(run):
    """The first state, and that after three steps."""
    first = jax.device_get(run.initialise())
    return first, run_steps(run, [host_batch(RUN, seed) for seed in range(3)])[0]


def test_it_begins_as_the_model_that_it_adapts(run):
    plain = build(replace(RUN, lora=None))
    ours = jax.device_get(run.initialise()).params
    theirs = jax.device_get(plain.initialise()).params
    for path, x in run.model.plain(ours).items():
        assert (np.asarray(x) == theirs[path]).all(), path
    a, b = ours[f"lora/{UP}/a"], ours[f"lora/{UP}/b"]
    assert a.shape == (2, 64, 2) and b.shape == (2, 2, 128) and not b.any()
    assert a.std() == pytest.approx(64**-0.5, rel=0.15) and (a[0] != a[1]).all()
    other = ours[f"lora/{UP.replace('mlp/up', 'attention/query')}/a"]
    assert (a != other).all()


def test_only_the_adaptation_trains(run, trained):
    first, state = trained
    for path, x in state.params.items():
        assert (x != first.params[path]).any() == path.startswith("lora/"), path
    sizes = [x.size for path, x in first.params.items() if path.startswith("lora/")]
    assert run.trained_count == sum(sizes) < 0.05 * run.parameter_count
    moments = {p for leaf in state.opt_state if hasattr(leaf, "mu") for p in leaf.mu}
    assert moments == run.trained


def test_one_layer_is_x_w_plus_x_a_b(trained):
    rng, params = np.random.default_rng(0), trained[1].params
    x = rng.normal(size=(5, 64))
    w, a, b = (params[p][1].astype("f8") for p in (UP, f"lora/{UP}/a", f"lora/{UP}/b"))
    assert np.abs(b).max() > 0
    merged = lora.merge(params, SETTINGS)
    wanted = x @ w + 3.0 * ((x @ a) @ b)
    np.testing.assert_allclose(x @ np.asarray(merged[UP][1], "f8"), wanted, atol=1e-6)
    assert merged.keys() == {path for path in params if not path.startswith("lora/")}


def test_gradients_of_a_and_b_are_those_of_the_product(run, trained):
    """dA = s dW B^T and dB = s A^T dW, with dW the gradient of the whole kernel."""
    params, batch = trained[1].params, host_batch(RUN)
    objective = next(iter(next(iter(run.tasks.values())).objectives.values()))

    def loss(params, bind):
        return objective.loss(bind(params)(batch), batch, batch)[0]

    small = jax.jit(jax.grad(lambda p: loss(p, run.model.bind)))(params)
    plain = run.model._replace(plain=lambda params: params)
    merged = lora.merge(params, SETTINGS)
    whole = np.asarray(jax.jit(jax.grad(lambda p: loss(p, plain.bind)))(merged)[UP], "f8")
    a, b = (params[f"lora/{UP}/{name}"].astype("f8") for name in "ab")
    for name, wanted in (
        ("a", 3.0 * whole @ b.swapaxes(1, 2)),
        ("b", 3.0 * a.swapaxes(1, 2) @ whole),
    ):
        found = np.asarray(small[f"lora/{UP}/{name}"])
        np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max(), err_msg=name)


def test_what_a_rule_names_trains_too():
    rules = (Rule("temperature/.*", 1.0), Rule("lora/towers/text/.*", 0.5))
    paths = build(RUN).model.shapes()
    chosen = multipliers(lora.frozen_otherwise(config.Optimizer(rules=rules)), paths)
    assert chosen["temperature/image-text/scale"] == 1.0 and chosen[UP] is None
    assert chosen[f"lora/{UP}/a"] == 1.0 and chosen["lora/towers/text/projection/kernel/b"] == 0.5


def test_a_checkpoint_is_restored_as_a_plain_model(run, trained, tmp_path):
    """With the same embeddings as the adapted model, unmerged, has."""
    params = trained[1].params
    save(tmp_path, run, {"params": params})
    experiment, merged, step = restore(tmp_path)
    assert step == 5 and experiment.config.lora is None
    assert merged.keys() == experiment.model.shapes().keys()
    batch = host_batch(RUN)
    say = jax.jit(lambda params: experiment.model.bind(params)(batch))
    ours = jax.jit(lambda params: run.model.bind(params)(batch))(params)
    theirs, base = say(merged), say({path: params[path] for path in merged})
    for tower in ("image", "text"):
        np.testing.assert_allclose(ours[tower], theirs[tower], atol=1e-6)
        assert np.abs(base[tower] - theirs[tower]).max() > 1e-3


def test_no_device_reads_a_whole_kernel(run, trained, tmp_path, monkeypatch):
    asked = {}
    read = Checkpoints.restore_params

    def restored(self, step, target=None, ema=None):
        asked.update(target or {})
        return read(self, step, target, ema)

    monkeypatch.setattr(Checkpoints, "restore_params", restored)
    save(tmp_path, run, {"params": trained[1].params})
    experiment, merged, _ = restore(tmp_path)
    split = 0
    for path, x in experiment.abstract_state.params.items():
        assert asked[path].sharding == merged[path].sharding == x.sharding, path
        split += not x.sharding.is_fully_replicated
    assert split > 10 and f"lora/{UP}/a" in asked
    wanted = lora.merge(trained[1].params, SETTINGS)
    for path, x in wanted.items():
        np.testing.assert_allclose(merged[path], x, atol=1e-6, err_msg=path)


def test_on_a_mesh_it_is_the_same(trained):
    split = build(RUN, devices=4, data=2, fsdp=2)
    state, _ = run_steps(split, [host_batch(RUN, seed) for seed in range(3)])
    for path, x in trained[1].params.items():
        np.testing.assert_allclose(state.params[path], x, atol=2e-5, err_msg=path)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"patterns": ("tower/.*",)}, "patterns: 'tower/.*' matches no parameter as a whole; the"),
        ({"patterns": ("(",)}, r"patterns: '\(' is no regular expression"),
        ({"patterns": ()}, "patterns: names nothing"),
        ({"patterns": (".*bias",)}, "is no matrix; name kernels"),
        ({"rank": 64}, r"rank=64: must be below both sizes of towers/.* \(192, 64\)"),
    ],
)
def test_what_cannot_be_adapted_is_one_line(changes, told):
    settings = dataclasses.replace(SETTINGS, **changes)
    with pytest.raises(UserError, match=told) as caught:
        build(replace(RUN, lora=settings))
    assert "\n" not in str(caught.value)
