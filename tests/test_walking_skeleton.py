"""Four families at toy size through one path: drawn scenes, two steps on data=2 x fsdp=2."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from multimodal import recipe
from multimodal.config import MeshShape
from multimodal.generation.greedy import greedy
from multimodal.parallel.processes import to_global
from multimodal.train import train
from tests.toy import CONFIGS, build, replace

TASKS = {
    "dual_encoder": {"pairs": {"contrastive"}},
    "coca": {"captions": {"contrastive", "captioning"}},
    "uniter": {"words": {"masked_language"}, "pairs": {"matching"}},
    "prefix_lm": {"captions": {"captioning"}},
}
STEPS = {family: 2 * len(tasks) for family, tasks in TASKS.items()}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("data"))


def settings(family, data_dir):
    values = recipe.load(str(CONFIGS / "toy.py"), f"family={family},steps={STEPS[family]},train=64")
    return replace(recipe.finish(values), data_dir=data_dir)


@pytest.fixture(scope="module")
def trained(data_dir):
    """Two steps of every task of a family, in turn: the run, its states, and each step's figures
    and batch. A family is trained once."""
    done = {}

    def of(family):
        if family not in done:
            done[family] = _trained(build(settings(family, data_dir), 4, data=2, fsdp=2))
        return done[family]

    return of


def _trained(run):
    with jax.set_mesh(run.mesh):
        state = run.initialise()
        first, history = jax.device_get(state.params), []
        for name, task in run.tasks.items():
            # Compiled for the abstract batch, a step refuses any other that the data might give.
            step = task.step.lower(run.abstract_state, run.abstract_batch()).compile()
            stream = run.batches(name)
            for _ in range(2):
                drawn = next(stream)
                batch = {key: drawn[key] for key in run.abstract_batch()}
                state, figures = step(state, to_global(batch, run.mesh))
                history.append((name, jax.device_get(figures), batch))
            stream.close()
    return run, first, jax.device_get(state), history


@pytest.mark.parametrize("family", TASKS)
def test_every_family_learns_from_real_batches(trained, family):
    run, first, state, history = trained(family)
    assert {name: set(task.objectives) for name, task in run.tasks.items()} == TASKS[family]
    assert state.step == len(history) == STEPS[family]
    for name, figures, batch in history:
        weights = {key: o.weight for key, o in run.tasks[name].objectives.items()}
        assert figures["loss"] == pytest.approx(sum(w * figures[k] for k, w in weights.items()))
        assert 0 < figures["loss"] < 30 and 0 < figures["gradient_norm"] < np.inf
        assert figures["valid"] == 1 and batch["valid"].all()
        assert batch["image"].std() > 10 and (batch["text"][:, 0] == run.tokenizer.start_id).all()
    assert not (history[0][2]["image"] == history[1][2]["image"]).all()
    for path, value in state.params.items():
        assert np.isfinite(value).all(), path
        # A key bias shifts all scores of a query alike: its gradient is rounding.
        assert (value != first[path]).any() or path.endswith("key/bias"), path


def equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from equations(getattr(inner, "jaxpr", inner))


def test_both_signals_of_coca_come_from_one_forward_pass(trained):
    run = trained("coca")[0]
    (task,) = run.tasks.values()
    with jax.set_mesh(run.mesh):
        traced = task.step.trace(run.abstract_state, run.abstract_batch())
    found = list(equations(traced.jaxpr.jaxpr))
    # Pictures are embedded once, words are looked up once; the way back does neither again.
    patch, vocab, width = 3 * 8 * 8, 260, 64
    products = [e for e in found if e.primitive.name == "dot_general"]
    assert sum(e.invars[1].aval.shape == (patch, width) for e in products) == 1
    lookups = [e for e in found if e.primitive.name == "gather"]
    assert sum(e.invars[0].aval.shape == (vocab, width) for e in lookups) == 1


def test_prefix_language_model_decodes_with_the_cache_what_it_says_without(trained):
    run, _, state, history = trained("prefix_lm")
    batch = history[0][2]
    images, length, steps = jnp.asarray(batch["image"][:4]), 5, 8
    model = run.model.bind(state.params)
    prompt = jnp.asarray(batch["text"][:4, :length])
    cached = jax.jit(lambda images, prompt: greedy(model, images, prompt, steps=steps, end_id=-1))(
        images, prompt
    )
    assert cached.shape == (4, steps)

    @jax.jit
    def next_logits(text, row):
        prefix = jnp.full((4,), length)
        outputs = model({"image": images, "text": text, "prefix_length": prefix})
        return outputs["caption_logits"][:, row]

    text = jnp.zeros((4, length + steps), prompt.dtype).at[:, :length].set(prompt)
    for i in range(steps):
        logits = next_logits(text, length + i - 1)
        text = text.at[:, length + i].set(logits.argmax(-1))
    np.testing.assert_array_equal(text[:, length:], cached)
    assert len(np.unique(cached)) > 1


@pytest.mark.parametrize("family", TASKS)
def test_the_one_trainer_trains_every_family_on_four_devices(family, data_dir, tmp_path):
    # With this seed UNITER's four steps take both of its tasks.
    values = replace(settings(family, data_dir), mesh=MeshShape(data=2, fsdp=2), seed=1)
    train(values, tmp_path / "run", jax.devices()[:4])
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").open()]
    assert [line["step"] for line in lines] == list(range(1, STEPS[family] + 1))
    assert all(0 < line["train/loss"] < 30 for line in lines)
    # Planned stands beside measured.
    assert all(line["planned/model_flops"] > 1e6 for line in lines)
    assert all(line["planned/state_bytes"] > 1e5 for line in lines)
    prefix = "train/{task}/" if len(TASKS[family]) > 1 else "train/"
    for task, objectives in TASKS[family].items():
        for name in objectives:
            seen = [line for line in lines if prefix.format(task=task) + name in line]
            assert seen, (task, name)
    assert all("train/gradient_norm" in line and "train/learning_rate" in line for line in lines)
    assert (tmp_path / f"run/checkpoints/{STEPS[family]:08d}").is_dir()
    table = (tmp_path / "run/placement.txt").read_text()
    assert "fsdp" in table and "bytes a device" in table
