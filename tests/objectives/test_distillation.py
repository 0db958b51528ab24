"""Self-distillation and masked patches against NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multimodal import config
from multimodal.objectives.distillation import MaskedPatches, SelfDistillation

BATCH, VIEWS, PATCHES, MASKED, WIDTH, PROTOTYPES = 6, 3, 16, 5, 8, 20
RNG = np.random.default_rng(0)
VALID = np.array([True, True, False, True, True, True])
STUDENT, TEACHER = 0.3, 0.2  # temperatures


def unit(*shape):
    x = RNG.normal(size=shape)
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


OUTPUTS = {
    "local_features": unit(BATCH, VIEWS, WIDTH),
    "masked_features": unit(BATCH, MASKED, WIDTH),
    "weights": {"view": unit(PROTOTYPES, WIDTH), "patch": unit(PROTOTYPES, WIDTH)},
    "teacher/weights": {"view": unit(PROTOTYPES, WIDTH), "patch": unit(PROTOTYPES, WIDTH)},
}
ROWS = {
    "valid": VALID,
    "masked_patches": np.array([RNG.permutation(PATCHES)[:MASKED] for _ in range(BATCH)]),
    "teacher/view_features": unit(BATCH, WIDTH),
    "teacher/patch_features": unit(BATCH, PATCHES, WIDTH),
}


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def agreement(student, teacher, centre, name):
    """Cross entropy and the teacher's entropy of one position; the centre is that of the logits."""
    a, b = (OUTPUTS[w][name].astype(np.float64) for w in ("weights", "teacher/weights"))
    p = softmax((b @ teacher - b @ centre) / TEACHER)
    q = softmax(a @ student / STUDENT)
    return -(p * np.log(q)).sum(), -(p * np.log(p)).sum()


def views_by_hand():
    teacher = ROWS["teacher/view_features"].astype(np.float64)
    centre = teacher[VALID].mean(0)
    return [
        agreement(OUTPUTS["local_features"][i, j], teacher[i], centre, "view")
        for i in np.flatnonzero(VALID)
        for j in range(VIEWS)
    ]


def patches_by_hand():
    teacher = ROWS["teacher/patch_features"].astype(np.float64)
    centre = teacher[VALID].mean((0, 1))
    return [
        agreement(OUTPUTS["masked_features"][i, j], teacher[i, patch], centre, "patch")
        for i in np.flatnonzero(VALID)
        for j, patch in enumerate(ROWS["masked_patches"][i])
    ]


def objective_of(kind, **changes):
    temperatures = {"student_temperature": STUDENT, "teacher_temperature": TEACHER}
    settings = {SelfDistillation: config.SelfDistillation, MaskedPatches: config.MaskedPatches}
    return kind(settings[kind](**temperatures | changes), None)


CASES = [(SelfDistillation, views_by_hand), (MaskedPatches, patches_by_hand)]


@pytest.mark.parametrize("chunk", [2, 8])
@pytest.mark.parametrize(("kind", "by_hand"), CASES)
def test_against_numpy(kind, by_hand, chunk):
    loss, figures = objective_of(kind, chunk=chunk).loss(OUTPUTS, ROWS, ROWS)
    wanted, entropy = np.mean(by_hand(), axis=0)
    np.testing.assert_allclose(loss, wanted, rtol=1e-5)
    np.testing.assert_allclose(figures["teacher_entropy"], entropy, rtol=1e-5)


@pytest.mark.parametrize("kind", [SelfDistillation, MaskedPatches])
def test_microbatches_add_up_and_broken_slots_count_for_nothing(kind):
    objective = objective_of(kind)
    whole, _ = objective.loss(OUTPUTS, ROWS, ROWS)

    def part(tree, number):
        return jax.tree.map(lambda x: x[number::2] if len(x) == BATCH else x, tree)

    parts = [objective.loss(part(OUTPUTS, i), part(ROWS, i), ROWS)[0] for i in range(2)]
    np.testing.assert_allclose(sum(parts), whole, rtol=1e-6)
    broken = dict(ROWS)
    for name in ("teacher/view_features", "teacher/patch_features"):
        broken[name] = np.where(VALID.reshape(-1, *[1] * (ROWS[name].ndim - 1)), ROWS[name], 1e3)
    np.testing.assert_allclose(objective.loss(OUTPUTS, broken, broken)[0], whole, rtol=1e-6)


def test_centring_hides_what_all_answers_have_in_common():
    objective = objective_of(SelfDistillation)
    moved = ROWS | {"teacher/view_features": ROWS["teacher/view_features"] + unit(WIDTH)}
    loss, _ = objective.loss(OUTPUTS, ROWS, ROWS)
    np.testing.assert_allclose(objective.loss(OUTPUTS, moved, moved)[0], loss, rtol=1e-5)


def test_views_and_masks_of_a_batch():
    images = RNG.integers(0, 256, (BATCH, 32, 32, 3), np.uint8)
    batch = {"image": jnp.asarray(images), "valid": jnp.asarray(VALID)}
    distillation = objective_of(SelfDistillation, local_views=2, local_size=16)
    patches = objective_of(MaskedPatches, patch_size=8, rate=0.4)

    @jax.jit
    def prepare(batch, key):
        first = distillation.prepare(batch, key)
        return first, patches.prepare(first, jax.random.fold_in(key, 1))

    first, second = prepare(batch, jax.random.key(0))
    _, other = prepare(batch, jax.random.key(1))
    assert first["view"].shape == images.shape and first["view"].dtype == jnp.uint8
    assert first["local_views"].shape == (BATCH, 2, 16, 16, 3)
    np.testing.assert_array_equal(second["image"], images)
    np.testing.assert_array_equal(second["view"], first["view"])  # both objectives share it
    for name in ("view", "local_views", "masked_patches"):
        assert (second[name] != other[name]).any()
    masked = np.asarray(second["masked_patches"])
    assert masked.shape == (BATCH, 6)  # 40 % of 16
    assert all(len(set(row)) == 6 and row.min() >= 0 and row.max() < 16 for row in masked)
    assert len({tuple(sorted(row)) for row in masked}) > 1
