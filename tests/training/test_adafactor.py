import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest

from multimodal.training.adafactor import factored_axes, scale_by_adafactor

STEPS = 6
SHAPES = {"kernel": (40, 64), "heads": (48, 4, 36), "narrow": (31, 64), "bias": (64,), "scale": ()}


def gradients(shapes: dict, seed: int = 0) -> list[dict[str, np.ndarray]]:
    """Gradients whose size differs between rows, columns and steps."""
    rng = np.random.default_rng(seed)
    draw = {p: np.exp(rng.normal(size=shape)) for p, shape in shapes.items()}
    return [
        {p: 10 ** rng.uniform(-4, 0) * rng.normal(size=s) * draw[p] for p, s in shapes.items()}
        for _ in range(STEPS)
    ]


def run(transformation, grads: list[dict[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
    as_float = [{p: jnp.asarray(g, jnp.float32) for p, g in step.items()} for step in grads]
    state, outputs = transformation.init(as_float[0]), []
    update = jax.jit(transformation.update)
    for step in as_float:
        direction, state = update(step, state, step)
        outputs.append({p: np.asarray(u, np.float64) for p, u in direction.items()})
    return outputs


def oracle(grads: list[np.ndarray], beta1: float, cap: float, clip: float | None) -> list:
    """One parameter that is no stack, in float64 (momentum rounded to bfloat16)."""
    shape = grads[0].shape
    order = np.argsort(shape, kind="stable")
    factored = len(shape) > 1 and shape[order[-2]] >= 32
    row = column = full = momentum = 0.0
    outputs = []
    for t, grad in enumerate(grads, start=1):
        beta2 = min(cap, 1 - t**-0.8)
        square = grad**2 + 1e-30
        if factored:
            small, large = order[-2:]
            row = beta2 * row + (1 - beta2) * square.mean(large, keepdims=True)
            column = beta2 * column + (1 - beta2) * square.mean(small, keepdims=True)
            update = grad / np.sqrt(row * column / row.mean(small, keepdims=True))
        else:
            full = beta2 * full + (1 - beta2) * square
            update = grad / np.sqrt(full)
        if clip:
            update = update / max(1.0, np.sqrt((update**2).mean()) / clip)
        exact = beta1 * momentum + (1 - beta1) * update
        momentum = np.asarray(exact, ml_dtypes.bfloat16).astype(np.float64)
        outputs.append(exact)
    return outputs


def assert_close(got: np.ndarray, wanted: np.ndarray, kept_in: str) -> None:
    if kept_in == "float32":
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)
    else:  # a value near the middle of two bfloat16 numbers may be rounded the other way
        assert np.mean(np.abs(got - wanted) > 1e-4) < 2e-3
        np.testing.assert_allclose(got, wanted, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("beta1", [0.0, 0.9])
def test_updates_match_float64(clip, beta1):
    grads = gradients(SHAPES)
    outputs = run(scale_by_adafactor(frozenset(), beta1, 0.7, clip), grads)
    for path in SHAPES:
        wanted = oracle([step[path] for step in grads], beta1, 0.7, clip)
        for t in range(STEPS):
            assert_close(outputs[t][path], wanted[t], "bfloat16" if beta1 else "float32")


def test_without_stacks_it_is_big_visions_chain_of_optax_pieces():
    def decay(step, exponent):
        return jnp.minimum(0.7, 1.0 - (step + 1.0) ** -exponent)

    reference = optax.chain(
        optax.scale_by_factored_rms(min_dim_size_to_factor=32, decay_rate_fn=decay),
        optax.ema(0.5, debias=False, accumulator_dtype=jnp.bfloat16),  # 0.5 is exact there
    )
    grads = gradients(SHAPES, seed=1)
    ours, theirs = run(scale_by_adafactor(frozenset(), 0.5, 0.7), grads), run(reference, grads)
    for t in range(STEPS):
        for path in SHAPES:
            assert_close(ours[t][path], theirs[t][path], "bfloat16")


def test_a_stack_is_factored_and_clipped_like_its_layers_alone():
    # 48 layers: as an axis like any other it would be one of the two largest, everywhere.
    shapes = {"kernel": (48, 32, 36), "heads": (48, 40, 2, 33), "bias": (48, 36), "scale": (48,)}
    grads = gradients(shapes, seed=2)
    stacked = run(scale_by_adafactor(frozenset(shapes), 0.0, 0.9, 0.5), grads)
    for path in shapes:
        for layer in (0, 1, 47):
            wanted = oracle([step[path][layer] for step in grads], 0.0, 0.9, 0.5)
            for t in range(STEPS):
                np.testing.assert_allclose(stacked[t][path][layer], wanted[t], rtol=1e-4, atol=1e-5)


def test_one_huge_layer_does_not_clip_the_others():
    grads = [{"kernel": np.ones((3, 32, 32))}, {"kernel": np.ones((3, 32, 32))}]
    grads[1]["kernel"][0] = 1e3
    first, second = run(scale_by_adafactor(frozenset({"kernel"}), 0.0, 0.5, 1.0), grads)
    np.testing.assert_allclose(second["kernel"][0], 1.0, rtol=1e-5)  # rms 1.41, clipped
    np.testing.assert_allclose(second["kernel"][1:], 1.0, rtol=1e-5)


@pytest.mark.parametrize(
    ("shape", "stacked", "axes"),
    [
        ((64, 32), False, (1, 0)),
        ((64, 31), False, None),
        ((64, 4, 128), False, (0, 2)),
        ((100, 64), True, None),
        ((100, 64, 32), True, (2, 1)),
        ((64,), False, None),
        ((), False, None),
    ],
)
def test_the_two_largest_axes_of_a_layer_are_factored_from_32_on(shape, stacked, axes):
    assert factored_axes(shape, stacked) == axes


def test_state_is_rows_and_columns_and_a_bfloat16_momentum():
    params = {"kernel": jnp.zeros((3, 64, 32)), "bias": jnp.zeros((3, 64))}
    state = scale_by_adafactor(frozenset(params)).init(params)
    assert {path: row.shape for path, row in state.row.items()} == {"kernel": (3, 1, 32)}
    assert {path: column.shape for path, column in state.column.items()} == {"kernel": (3, 64, 1)}
    assert {path: full.shape for path, full in state.full.items()} == {"bias": (3, 64)}
    for path, param in params.items():
        assert state.momentum[path].shape == param.shape
        assert state.momentum[path].dtype == jnp.bfloat16
