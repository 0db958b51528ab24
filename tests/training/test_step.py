"""The step on many meshes, in microbatches, with dropout and averages, against one device."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multimodal.config import Contrastive, Rule
from multimodal.objectives.pairs import ContrastivePair
from multimodal.parallel.processes import to_global
from multimodal.training.gradients import loss_and_gradient
from multimodal.training.step import teach
from tests.toy import build, host_batch, replace, run_steps, toy_config

MESHES = {
    "data=8": {"devices": 8},
    "fsdp=8": {"devices": 8, "data": 1, "fsdp": 8},
    "data=2 x fsdp=2 x tensor=2": {"devices": 8, "data": 2, "fsdp": 2, "tensor": 2},
    "fsdp=4 x tensor=2": {"devices": 8, "data": 1, "fsdp": 4, "tensor": 2},
    "data=2 x sequence=4": {"devices": 8, "data": 2, "sequence": 4},
}


def gradient_function(run, task=None, microbatches=1):
    """Host batch -> loss, figures and gradient of a fresh state; dropout is off without a key."""
    objectives = run.tasks[task or next(iter(run.tasks))].objectives

    @functools.partial(jax.jit, out_shardings=(None, None, run.shardings.params))
    def compute(params, batch, key):
        average = jax.tree.map(lambda x: jnp.roll(x, 1), params)  # any other parameters
        taught, constants = teach(run.model, objectives, average, batch, microbatches)

        def apply(params, batch, model_key):
            return run.model.bind(params)(batch, None if key is None else model_key) | constants

        model_key = jax.random.key(0) if key is None else key
        return loss_and_gradient(apply, objectives, params, batch | taught, model_key, microbatches)

    def call(batch, key=None):
        with jax.set_mesh(run.mesh):
            return jax.device_get(compute(params, to_global(batch, run.mesh), key))

    with jax.set_mesh(run.mesh):
        params = run.initialise().params
    return call


def gradient_of(run, batch, task=None, microbatches=1, key=None):
    return gradient_function(run, task, microbatches)(batch, key)


def assert_same_gradients(found, wanted, tolerance):
    """Within `tolerance` of each tensor's largest entry. A key bias shifts all scores of a query
    alike, so its gradient is zero but for rounding: a millionth of the largest of all tensors."""
    assert found.keys() == wanted.keys()
    overall = max(np.abs(want).max() for want in wanted.values())
    for path, want in wanted.items():
        bound = 1e-6 * overall if path.endswith("key/bias") else tolerance * np.abs(want).max()
        np.testing.assert_allclose(found[path], want, rtol=0, atol=bound, err_msg=path)


VARIANTS = [
    (loss, form) for loss in ("softmax", "sigmoid") for form in ("ring", "chunked", "dense")
]


class AnyVariant:
    """The contrastive loss whose number stands in the batch: all of them with one compilation."""

    weight, joint, reads = 1.0, True, ("image", "text", "temperature")

    def __init__(self):
        settings = [Contrastive(loss=loss, form=form) for loss, form in VARIANTS]
        self.objectives = [ContrastivePair(s, None) for s in settings]

    def loss(self, outputs, batch, whole):
        branches = [
            lambda o=o: o.loss(outputs, {"valid": batch["valid"]}, whole)[0]
            for o in self.objectives
        ]
        return jax.lax.switch(batch["variant"][0], branches), {}


@functools.cache
def gradients_on(**mesh):
    """(loss, gradient) by variant, on a mesh."""
    settings = replace(toy_config("dual_encoder"), model__logit_bias_init=-2.0)
    run = build(settings, **mesh)
    run.tasks["pairs"].objectives["contrastive"] = AnyVariant()
    compute = gradient_function(run)
    results = {}
    for number, variant in enumerate(VARIANTS):
        batch = host_batch(settings, broken=3)
        batch["variant"] = np.full(settings.batch_size, number, np.int32)
        loss, _, gradient = compute(batch)
        results[variant] = loss, gradient
    return results


@pytest.mark.parametrize("mesh", MESHES)
def test_every_mesh_gives_the_loss_and_gradient_of_one_device(mesh):
    single, found = gradients_on(), gradients_on(**MESHES[mesh])
    for loss, form in VARIANTS:
        want_loss, want = single[loss, "dense"]
        got_loss, got = found[loss, form]
        np.testing.assert_allclose(got_loss, want_loss, rtol=1e-6, err_msg=f"{loss} {form}")
        assert_same_gradients(got, want, 1e-5)


@pytest.mark.parametrize("family", ["dual_encoder", "siglip2", "coca", "uniter", "prefix_lm"])
def test_four_microbatches_give_the_gradient_of_the_whole_batch(family):
    settings = toy_config(family)
    if family == "uniter":  # BERT's 0.02 leaves a toy's gradients too small to compare
        settings = replace(settings, model__transformer__init="vit")
    run = build(settings, devices=2)
    for task in run.tasks:
        batch = prepared(run, task, host_batch(settings, broken=2))
        loss, figures, gradient = gradient_of(run, batch, task)
        again = gradient_of(run, batch, task, microbatches=4)
        np.testing.assert_allclose(again[0], loss, rtol=1e-6)
        assert_same_gradients(again[2], gradient, 1e-5)
        assert again[1].keys() == figures.keys()
        for name, value in figures.items():
            np.testing.assert_allclose(again[1][name], value, rtol=1e-5, err_msg=name)


def several_texts(settings, texts=3, **options):
    """The toy's run with `texts` texts a picture, and a batch of it."""
    settings = replace(settings, tasks__pairs__data__texts=texts)
    batch = host_batch(settings, **options)
    rolled = [np.roll(batch["text"], i, axis=0) for i in range(texts)]
    return settings, batch | {"text": np.stack(rolled, axis=1)}


def test_several_texts_on_a_mesh_and_in_microbatches_as_on_one_device():
    settings, batch = several_texts(toy_config("dual_encoder"), broken=2)
    loss, _, gradient = gradient_of(build(settings), batch)
    meshes = {"data=4 x fsdp=2": {"devices": 8, "data": 4, "fsdp": 2}, "data=2": {"devices": 2}}
    for (mesh, sizes), parts in zip(meshes.items(), (1, 4), strict=True):
        run = build(settings, **sizes)
        assert run.abstract_batch()["text"].shape == batch["text"].shape
        found = gradient_of(run, batch, microbatches=parts)
        np.testing.assert_allclose(found[0], loss, rtol=1e-6, err_msg=mesh)
        assert_same_gradients(found[2], gradient, 1e-5)


def prepared(run, task, batch):
    """The batch as the task's objectives change it, for tests that skip the step."""

    @jax.jit
    def prepare(batch):
        for number, objective in enumerate(run.tasks[task].objectives.values()):
            batch = objective.prepare(batch, jax.random.key(number))
        return batch

    return jax.device_get(prepare(batch))


def with_dropout(**changes):
    settings = toy_config("dual_encoder", **changes)
    for name in ("image", "text"):
        settings = replace(settings, **{f"model__towers__{name}__transformer__dropout": 0.3})
    return settings


def test_dropout_differs_by_microbatch_and_step_and_not_by_mesh():
    settings = with_dropout()
    batch = host_batch(settings)
    run = build(settings, devices=2)
    compute = gradient_function(run)
    whole, other_key = (compute(batch, jax.random.key(number)) for number in (1, 2))
    four = gradient_of(build(settings, devices=4), batch, key=jax.random.key(1))
    assert abs(whole[0] - other_key[0]) > 1e-3
    np.testing.assert_allclose(four[0], whole[0], rtol=1e-5)

    # Two microbatches of the same examples: equal embeddings would mean equal masks.
    objective = run.tasks["pairs"].objectives["contrastive"]
    seen = {}

    class Spy:
        weight, reads, joint = objective.weight, objective.reads, True

        def loss(self, outputs, batch, whole):
            seen["image"] = outputs["image"]
            return (outputs["image"] ** 2).sum(), {"difference": self.difference(outputs)}

        def difference(self, outputs):
            pairs = outputs["image"].reshape(-1, 2, outputs["image"].shape[-1])
            return jnp.abs(pairs[:, 0] - pairs[:, 1]).max()

    twice = {name: np.repeat(x[::2], 2, axis=0) for name, x in batch.items()}
    params = run.initialise().params

    @functools.partial(jax.jit, static_argnums=1)
    def difference(params, noisy):
        def apply(params, batch, key):
            return run.model.bind(params)(batch, key if noisy else None)

        figures = loss_and_gradient(apply, {"spy": Spy()}, params, twice, jax.random.key(0), 2)[1]
        return figures["spy/difference"]

    assert difference(params, True) > 1e-2
    assert difference(params, False) < 1e-6


def test_dropout_changes_training_and_not_evaluation():
    plain, noisy = toy_config("dual_encoder"), with_dropout()
    batch = host_batch(plain)
    _, figures = run_steps(build(plain), [batch])
    _, noisy_figures = run_steps(build(noisy), [batch])
    assert abs(figures["loss"] - noisy_figures["loss"]) > 1e-3
    embeddings = []
    for settings in (plain, noisy):
        run = build(settings)

        @jax.jit
        def encode(params, images, run=run):
            return run.model.bind(params).encode("image", images)

        embeddings.append(encode(run.initialise().params, batch["image"]))
    np.testing.assert_array_equal(*embeddings)


def test_steps_repeat_and_draw_new_masks():
    settings = with_dropout(steps=4)
    settings = replace(settings, optimizer__learning_rate=0.0)
    batch = host_batch(settings)
    run = build(settings)
    losses = [run_steps(run, [batch] * count)[1]["loss"] for count in (1, 2, 1)]
    assert losses[0] == losses[2]
    assert abs(losses[0] - losses[1]) > 1e-4


def test_average_follows_the_closed_form_and_frozen_parameters_stay():
    settings = toy_config("dual_encoder", ema=0.5)
    rules = (Rule("towers/image/.*", None), Rule("towers/text/positions/.*", 0.5))
    settings = replace(settings, optimizer__rules=rules)
    run = build(settings, devices=2, data=1, fsdp=2)
    batches = [host_batch(settings, seed) for seed in range(3)]
    start = jax.device_get(run.initialise())
    expected, previous = start.params, None
    for count in (1, 2, 3):
        previous, _ = run_steps(run, batches[:count])
        decay = min(0.5, count / (9 + count))
        expected = {
            path: decay * expected[path] + (1 - decay) * previous.params[path] for path in expected
        }
    for path, value in previous.ema.items():
        np.testing.assert_allclose(value, expected[path], rtol=2e-5, atol=1e-7, err_msg=path)
        moved = np.abs(previous.params[path] - start.params[path]).max()
        assert (moved == 0) == path.startswith("towers/image/"), path
    names = {str(key) for key, _ in jax.tree_util.tree_leaves_with_path(previous.opt_state)}
    assert not any("towers/image" in name for name in names)


def test_a_batch_with_no_whole_record_changes_nothing_but_decay():
    settings = toy_config("dual_encoder")
    _, figures = run_steps(build(settings), [host_batch(settings, broken=settings.batch_size)])
    assert figures["loss"] == 0 and figures["gradient_norm"] == 0 and figures["valid"] == 0


def test_step_figures_for_two_tasks_of_one_run():
    settings = toy_config("uniter")
    run = build(settings, devices=4, data=2, fsdp=2)
    for task, name in (("words", "masked_language"), ("pairs", "matching")):
        _, figures = run_steps(run, [host_batch(settings)] * 2, task)
        assert figures["loss"] == pytest.approx(figures[name]) and np.isfinite(figures["loss"])
        assert 0 <= figures[f"{name}/accuracy"] <= 1


def test_a_step_leaves_the_temperature_at_its_limit_at_most():
    settings = replace(toy_config("dual_encoder"), optimizer__learning_rate=0.5)
    settings = replace(settings, optimizer__schedule="constant")
    path = "temperature/image-text/scale"

    def temperatures(run):
        """(before, after) a step from each of two starts."""
        with jax.set_mesh(run.mesh):
            for start in (4.6, 7.0):
                state, batch = run.initialise(), to_global(host_batch(settings), run.mesh)
                state = dataclasses.replace(state, params=state.params | {path: jnp.float32(start)})
                state, figures = run.tasks["pairs"].step(state, batch)
                assert figures["contrastive/log_scale"] == pytest.approx(start)
                yield start, state.params[path]

    for _, after in temperatures(build(settings)):
        assert after <= np.float32(np.log(100)) + 1e-6
    for start, after in temperatures(build(replace(settings, model__logit_scale_max=None))):
        assert abs(after - start) == pytest.approx(0.5, rel=1e-3)


def test_microbatches_run_again_with_the_dropout_of_their_first_run():
    settings, parts, key = with_dropout(), 4, jax.random.key(3)
    run, batch = build(settings), host_batch(settings)
    objectives, params = run.tasks["pairs"].objectives, run.initialise().params

    def apply(params, batch, key):
        return run.model.bind(params)(batch, key)

    @jax.jit
    @jax.value_and_grad
    def direct(params):
        """The same masks, but every activation kept and differentiated at once."""
        outputs = [
            apply(params, {name: x[i::parts] for name, x in batch.items()}, k)
            for i, k in enumerate(jax.random.split(key, parts))
        ]
        whole = {
            name: jnp.stack([o[name] for o in outputs], 1).reshape(settings.batch_size, -1)
            for name in ("image", "text")
        }
        whole["temperature"] = outputs[0]["temperature"]
        return objectives["contrastive"].loss(whole, batch, batch)[0]

    loss, gradient = direct(params)
    cached = jax.jit(lambda p: loss_and_gradient(apply, objectives, p, batch, key, parts))(params)
    np.testing.assert_allclose(cached[0], loss, rtol=1e-6)
    assert_same_gradients(jax.device_get(cached[2]), jax.device_get(gradient), 1e-5)
