import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from multimodal.config import Optimizer, Rule
from multimodal.errors import UserError
from multimodal.parallel.mesh import make_mesh
from multimodal.training import optimizer
from multimodal.training.schedule import make_schedule

STEPS = 8
SHAPES = {
    "image/stack/mlp/kernel": (3, 40, 32),
    "image/stack/mlp/bias": (3, 40),
    "image/position": (16, 40),
    "text/embed": (64, 8),
    "logit_scale": (),
}
STACKED = frozenset(path for path in SHAPES if "/stack/" in path)
DECAYED = {"image/stack/mlp/kernel", "text/embed"}


def draw(seed: int, scale: float = 1.0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {path: scale * rng.normal(size=shape) for path, shape in SHAPES.items()}


def train(settings: Optimizer, params: dict, grads: list[dict]) -> dict[str, jax.Array]:
    params = {path: jnp.asarray(value, jnp.float32) for path, value in params.items()}
    chain = optimizer.make_optimizer(settings, STEPS, params, STACKED)
    state, update = chain.init(params), jax.jit(chain.update)
    for step in grads:
        step = {path: jnp.asarray(step[path], jnp.float32) for path in params}
        updates, state = update(step, state, params)
        params = optax.apply_updates(params, updates)
    return params


def oracle(settings: Optimizer, params: dict, grads: list[dict], factor: dict) -> dict:
    """The same steps in float64; `factor` is the multiplier of each path."""
    params, b1, b2 = dict(params), settings.beta1, settings.beta2
    mu = dict.fromkeys(params, 0.0)
    nu = dict.fromkeys(params, 0.0)
    for t, step in enumerate(grads):
        norm = np.sqrt(sum((step[path] ** 2).sum() for path in params))
        shrink = min(1.0, settings.clip_norm / norm) if settings.clip_norm else 1.0
        # Peak at step 0 and linear to 0 at STEPS.
        rate = settings.learning_rate * (1 - t / STEPS)
        for path, value in params.items():
            g = step[path] * shrink
            if settings.name == "adamw":
                mu[path] = b1 * mu[path] + (1 - b1) * g
                nu[path] = b2 * nu[path] + (1 - b2) * g**2
                unbiased = nu[path] / (1 - b2 ** (t + 1))
                direction = mu[path] / (1 - b1 ** (t + 1)) / (np.sqrt(unbiased) + settings.eps)
            else:
                direction = np.sign(b1 * mu[path] + (1 - b1) * g)
                mu[path] = b2 * mu[path] + (1 - b2) * g
            decay = settings.weight_decay if path in DECAYED else 0.0
            params[path] = value - rate * factor.get(path, 1.0) * (direction + decay * value)
    return params


@pytest.mark.parametrize("clip_norm", [None, 1.0])
@pytest.mark.parametrize("name", ["adamw", "lion"])
def test_several_steps_match_float64(name, clip_norm):
    settings = Optimizer(
        name=name,
        learning_rate=0.1,
        schedule="linear",
        beta2=0.98,
        eps=1e-3,
        weight_decay=0.3,
        clip_norm=clip_norm,
        rules=(Rule("image/stack/.*", 0.25), Rule("image/.*", 3.0)),
    )
    params, grads = draw(0), [draw(seed, scale=10.0 / seed**3) for seed in range(1, STEPS)]
    factor = dict.fromkeys(STACKED, 0.25) | {"image/position": 3.0}
    wanted = oracle(settings, params, grads, factor)
    for path, value in train(settings, params, grads).items():
        np.testing.assert_allclose(value, wanted[path], rtol=1e-4, atol=1e-5, err_msg=path)


def test_adafactor_goes_through_the_same_chain():
    """Constant gradients give the direction 1: what is left is rate, decay and multiplier."""
    settings = Optimizer(
        name="adafactor",
        learning_rate=0.1,
        schedule="linear",
        beta1=0.0,
        weight_decay=0.3,
        rules=(Rule("text/.*", 0.5),),
    )
    ones = {path: np.ones(shape) for path, shape in SHAPES.items()}
    params, got = draw(1), train(settings, draw(1), [ones] * 3)
    for path, value in params.items():
        for t in range(3):
            rate = 0.1 * (1 - t / STEPS) * (0.5 if path == "text/embed" else 1.0)
            value = value - rate * (1 + 0.3 * (path in DECAYED) * value)
        np.testing.assert_allclose(got[path], value, rtol=1e-5, atol=1e-6, err_msg=path)


def test_decay_goes_by_name_and_shrinks_with_the_learning_rate():
    settings = Optimizer(learning_rate=0.1, schedule="linear", weight_decay=0.5)
    params = draw(2)
    still = {path: np.zeros(shape) for path, shape in SHAPES.items()}
    kept = np.prod([1 - 0.1 * (1 - t / STEPS) * 0.5 for t in range(STEPS)])
    for path, value in train(settings, params, [still] * STEPS).items():
        wanted = params[path] * (kept if path in DECAYED else 1.0)
        np.testing.assert_allclose(value, wanted, rtol=1e-5, err_msg=path)


def test_first_matching_rule_decides_and_none_freezes():
    rules = (Rule("text/.*|pos.*", 0.1), Rule("image/position", 1.0), Rule("image/.*", None))
    settings = Optimizer(rules=rules)
    chosen = optimizer.multipliers(settings, SHAPES)
    assert chosen == {
        "image/stack/mlp/kernel": None,
        "image/stack/mlp/bias": None,
        "image/position": 1.0,
        "text/embed": 0.1,
        "logit_scale": 1.0,
    }
    left = optimizer.trainable(settings, SHAPES)
    assert left == {"image/position", "text/embed", "logit_scale"}
    # The frozen paths are gone; the rule that froze them is no error there, and has no state.
    params = {path: jnp.zeros(SHAPES[path]) for path in left}
    state = optimizer.make_optimizer(settings, STEPS, params, STACKED).init(params)
    assert (
        sum(x.size for x in jax.tree.leaves(state)) == 2 * sum(map(jnp.size, params.values())) + 2
    )
    with pytest.raises(ValueError, match="frozen"):
        optimizer.make_optimizer(settings, STEPS, SHAPES, STACKED)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ((Rule("imag/.*", 0.1),), r"'imag/.\*' matches no parameter.*image/position"),
        ((Rule("image", None),), "the whole path"),
        ((Rule("image/.*", None), Rule("image/position", 0.1)), "decides nothing"),
        ((Rule("image/(", None),), "no regular expression"),
    ],
)
def test_useless_rules_are_refused(rules, message):
    with pytest.raises(UserError, match=message):
        optimizer.multipliers(Optimizer(rules=rules), SHAPES)


def test_freezing_everything_is_refused():
    with pytest.raises(UserError, match="freeze every parameter"):
        optimizer.trainable(Optimizer(rules=(Rule(".*", None),)), SHAPES)


def test_bad_no_decay_pattern_is_refused():
    with pytest.raises(UserError, match="no regular expression"):
        settings = Optimizer(weight_decay=0.1, no_decay=("*bias",))
        optimizer.make_optimizer(settings, STEPS, SHAPES)


def test_the_rate_comes_from_the_schedule():
    settings = Optimizer(learning_rate=0.1, warmup_steps=4, beta1=0.0, beta2=0.0, clip_norm=None)
    ones = {path: np.ones(shape) for path, shape in SHAPES.items()}
    schedule = make_schedule(settings, STEPS)
    for count in (1, 3, 6):
        moved = train(settings, ones, [ones] * count)["logit_scale"]
        rates = sum(float(schedule(step)) for step in range(count))
        np.testing.assert_allclose(1 - moved, rates, rtol=1e-5, atol=1e-7)


PARAMS = {
    "stack/kernel": ((3, 64, 40), PartitionSpec(None, "fsdp", None)),
    "stack/bias": ((3, 64), PartitionSpec(None, "fsdp")),
    "embed": ((128, 48), PartitionSpec("fsdp")),  # fewer entries than axes
    "logit_scale": ((), PartitionSpec()),
}


def sharded_state(settings: Optimizer, shape: dict[str, int], params: dict = PARAMS):
    mesh = make_mesh(shape)
    abstract = {p: jax.ShapeDtypeStruct(shape, jnp.float32) for p, (shape, _) in params.items()}
    shardings = {p: NamedSharding(mesh, spec) for p, (_, spec) in params.items()}
    chain = optimizer.make_optimizer(settings, STEPS, abstract, frozenset(params) - {"embed"})
    wanted = optimizer.state_shardings(chain, abstract, shardings, mesh)
    zeros = {p: jnp.zeros(a.shape) for p, a in abstract.items()}
    state = jax.jit(chain.init, out_shardings=wanted)(jax.device_put(zeros, shardings))
    assert jax.tree.structure(wanted) == jax.tree.structure(state)
    return state


def bytes_per_device(state) -> list[int]:
    held = dict.fromkeys(jax.devices(), 0)
    for leaf in jax.tree.leaves(state):
        for shard in leaf.addressable_shards:
            held[shard.device] += shard.data.nbytes
    return list(held.values())


def test_adamw_state_takes_an_eighth_of_two_copies_on_eight_devices():
    state = sharded_state(Optimizer(weight_decay=0.1), {"data": 1, "fsdp": 8})
    sharded = 3 * 64 * 40 + 3 * 64 + 128 * 48
    whole = 1  # logit_scale
    counts = 2 * 4  # Adam's and the schedule's, int32
    assert bytes_per_device(state) == [2 * 4 * (sharded // 8 + whole) + counts] * 8


def test_lion_state_takes_an_eighth_of_one_copy_on_eight_devices():
    state = sharded_state(Optimizer(name="lion"), {"data": 1, "fsdp": 8})
    sharded = 3 * 64 * 40 + 3 * 64 + 128 * 48
    assert bytes_per_device(state) == [4 * (sharded // 8 + 1) + 2 * 4] * 8


def test_adafactors_factors_keep_the_sharding_of_the_axes_they_have():
    params = {
        "stack/kernel": ((3, 64, 40), PartitionSpec(None, "fsdp", "tensor")),
        "embed": (
            (48, 128),
            PartitionSpec(
                ("fsdp", "tensor"),
            ),
        ),
        "stack/bias": ((3, 64), PartitionSpec(None, "fsdp")),
    }
    settings = Optimizer(name="adafactor", weight_decay=0.1)
    state = sharded_state(settings, {"data": 1, "fsdp": 4, "tensor": 2}, params)
    factors = optax.tree.get(state, "AdafactorState")

    def shards(leaf):
        return leaf.sharding.shard_shape(leaf.shape)

    # The larger axis is averaged away in `row`, the smaller in `column`.
    assert shards(factors.row["stack/kernel"]) == (3, 1, 20)
    assert shards(factors.column["stack/kernel"]) == (3, 16, 1)
    assert shards(factors.row["embed"]) == (6, 1)
    assert shards(factors.column["embed"]) == (1, 128)
    assert shards(factors.full["stack/bias"]) == (3, 16)
    assert shards(factors.momentum["stack/kernel"]) == (3, 16, 20)
    assert factors.count.sharding.is_fully_replicated


def test_updates_are_the_same_on_one_device_and_on_eight():
    settings = Optimizer(name="adafactor", weight_decay=0.1, clip_update=1.0)
    stacked = frozenset(PARAMS) - {"embed"}
    rng = np.random.default_rng(3)
    params = {p: jnp.asarray(rng.normal(size=s), jnp.float32) for p, (s, _) in PARAMS.items()}
    chain = optimizer.make_optimizer(settings, STEPS, params, stacked)
    alone, _ = jax.jit(chain.update)(params, chain.init(params), params)
    mesh = make_mesh({"data": 1, "fsdp": 8})
    spread = {p: NamedSharding(mesh, spec) for p, (_, spec) in PARAMS.items()}
    state = optimizer.state_shardings(chain, params, spread, mesh)
    step = jax.jit(chain.update, out_shardings=(spread, state))
    there = jax.device_put(params, spread)
    shared, _ = step(there, jax.jit(chain.init, out_shardings=state)(there), there)
    for path in PARAMS:
        np.testing.assert_allclose(shared[path], alone[path], rtol=1e-4, atol=1e-9)
