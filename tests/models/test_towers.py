"""Image and text towers: normalisation of pixels, patch dropout, where texts are pooled, masks."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multimodal.config import ImageTower, TextTower, Transformer
from multimodal.errors import UserError
from multimodal.models.embeddings import drop_patches
from multimodal.models.rngs import Rngs
from multimodal.models.towers import LanguageTower, VisionTower
from multimodal.preprocessing import Preprocessing
from tests.models import oracle

STACK = Transformer(width=12, depth=2, heads=3, mlp=16)
PREPROCESSING = Preprocessing(image_size=16, mean=(0.2, 0.5, 0.7), std=(0.1, 0.2, 0.4))
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (3, 16, 16, 3), np.uint8)


def vision(**options):
    settings = ImageTower(image_size=16, patch_size=4, transformer=STACK, **options)
    made = VisionTower(settings, PREPROCESSING, 6, "float32", rngs=Rngs(0))
    return oracle.randomised(made)


def language(dtype="float32", **options):
    stack = options.pop("stack", STACK)
    settings = TextTower(vocab_size=20, length=8, transformer=stack, **options)
    made = LanguageTower(settings, 6, dtype, rngs=Rngs(0))
    return oracle.randomised(made)


def test_uint8_pictures_are_normalised_by_the_model():
    tower = vision()
    normalised = (IMAGES / 255 - np.array([0.2, 0.5, 0.7])) / np.array([0.1, 0.2, 0.4])
    wanted = tower(normalised.astype(np.float32))["embedding"]
    np.testing.assert_allclose(tower(IMAGES)["embedding"], wanted, atol=1e-4)


def test_patches_are_read_row_by_row():
    patches = vision().patches
    wanted = np.zeros((3, 16, 12))
    kernel, bias = oracle.f64(patches.linear.kernel), oracle.f64(patches.linear.bias)
    x = (IMAGES / 255 - np.array([0.2, 0.5, 0.7])) / np.array([0.1, 0.2, 0.4])
    for row, column in np.ndindex(4, 4):
        patch = x[:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        wanted[:, 4 * row + column] = patch.reshape(3, -1) @ kernel + bias
    np.testing.assert_allclose(patches(IMAGES), wanted, atol=5e-4)


@pytest.mark.parametrize("pooler", ["class", "map", "mean", "none"])
@pytest.mark.parametrize("final_norm", [True, False])
def test_pooling_of_pictures(pooler, final_norm):
    tower = vision(pooler=pooler, class_token=pooler == "class", final_norm=final_norm)
    out = tower(IMAGES, capture=("hidden",))
    last = np.asarray(out["hidden"][-1], np.float64)
    tokens = oracle.layer_norm(tower.final_norm, last) if final_norm else last
    np.testing.assert_allclose(out["tokens"], tokens, atol=1e-4)
    if pooler == "none":
        assert "embedding" not in out
        return
    wanted = {
        "class": lambda: tokens[:, 0],
        "mean": lambda: tokens.mean(1),
        "map": lambda: tower.pooler(tokens.astype(np.float32)),
    }[pooler]()
    np.testing.assert_allclose(out["embedding"], wanted, atol=2e-4)


def test_patch_dropout_keeps_distinct_patches():
    indices = np.broadcast_to(np.arange(16.0)[:, None], (500, 16, 2))
    kept = np.asarray(drop_patches(indices, 0.75, jax.random.key(0)))[..., 0]
    assert kept.shape == (500, 4)
    assert all(len(set(row)) == 4 for row in kept)
    assert len({tuple(sorted(row)) for row in kept}) > 300  # each example its own
    counts = np.bincount(kept.astype(int).ravel(), minlength=16) / 500
    assert np.abs(counts - 0.25).max() < 5 * (0.25 * 0.75 / 500) ** 0.5
    other = np.asarray(drop_patches(indices, 0.75, jax.random.key(1)))[..., 0]
    assert (np.sort(kept) != np.sort(other)).any()
    assert drop_patches(indices, 0.75, None) is indices


def test_patch_dropout_spares_the_class_token_and_stops_without_a_key():
    tower = vision(class_token=True, pooler="class", patch_dropout=0.5)
    whole = tower(IMAGES, capture=("hidden",))["hidden"][0]
    some = tower(IMAGES, key=jax.random.key(0), capture=("hidden",))["hidden"][0]
    assert whole.shape == (3, 17, 12) and some.shape == (3, 9, 12)
    np.testing.assert_array_equal(some[:, 0], whole[:, 0])
    for example in range(3):  # patches keep the positions they had
        rows = {row.tobytes() for row in np.asarray(whole[example])}
        assert all(row.tobytes() in rows for row in np.asarray(some[example]))


IDS = np.array([[1, 5, 2, 9, 2, 0, 0, 0], [1, 19, 3, 7, 4, 2, 0, 0]])


@pytest.mark.parametrize(
    ("pooler", "positions"),
    [("argmax", [3, 1]), ("end", [2, 5]), ("last", [7, 7]), ("first", [0, 0])],
)
def test_texts_are_pooled_at(pooler, positions):
    tower = language(pooler=pooler, projection="none")
    out = tower(IDS)
    wanted = np.asarray(out["tokens"])[np.arange(2), positions]
    np.testing.assert_allclose(out["embedding"], wanted, atol=1e-5)
    hidden = np.asarray(tower(IDS, capture=("hidden",))["hidden"][-1], np.float64)
    np.testing.assert_allclose(
        out["tokens"], oracle.layer_norm(tower.final_norm, hidden), atol=1e-4
    )


def test_projection_follows_the_pooler():
    tower = language(pooler="first", projection="linear_bias")
    out = tower(IDS)
    wanted = oracle.linear(tower.projection, np.asarray(out["tokens"][:, 0], np.float64))
    np.testing.assert_allclose(out["embedding"], wanted, atol=1e-4)


@pytest.mark.parametrize("pooler", ["mean", "first"])
def test_padding_is_not_looked_at(pooler):
    tower = language(pooler=pooler, mask_padding=True)
    short = tower(IDS[:1, :5])["embedding"]
    np.testing.assert_allclose(tower(IDS[:1])["embedding"], short, atol=1e-5)
    open_tower = language(pooler=pooler, mask_padding=False)
    assert not np.allclose(open_tower(IDS[:1])["embedding"], short, atol=1e-2)


def test_a_causal_tower_does_not_look_ahead():
    tower = language(stack=dataclasses.replace(STACK, causal=True))
    changed = IDS.copy()
    changed[:, 4] = 11
    a, b = tower(IDS)["tokens"], tower(changed)["tokens"]
    np.testing.assert_allclose(a[:, :4], b[:, :4], atol=1e-5)
    assert not np.allclose(a[:, 4:], b[:, 4:], atol=1e-2)


def test_a_text_that_is_too_long_is_refused():
    with pytest.raises(UserError, match="9 positions, but the model has learnt only 8"):
        language()(np.ones((1, 9), int))


def test_dropout_acts_on_the_embeddings_too():
    stack = dataclasses.replace(STACK, dropout=0.5)
    for tower, inputs in ((language(stack=stack), IDS), (vision(), IMAGES)):
        tower.settings = dataclasses.replace(tower.settings, transformer=stack)
        first = tower(inputs, key=jax.random.key(0), capture=("hidden",))["hidden"][0]
        assert 0.35 < (np.asarray(first) == 0).mean() < 0.65


def test_bfloat16_activations_from_float32_parameters():
    out = language("bfloat16")(IDS)
    assert out["tokens"].dtype == jnp.bfloat16


@pytest.mark.parametrize("class_token", [False, True])
def test_pictures_of_another_size_are_given_the_positions_resized(class_token):
    tower = vision(class_token=class_token, pooler="class" if class_token else "map")
    positions, first = tower.positions, int(class_token)
    table = positions.position[...]
    zeros = jnp.zeros((1, 2 * 3 + first, 12))
    found = positions(zeros, grid=(2, 3))[0]
    cells = jax.image.resize(table[first:].reshape(4, 4, 12), (2, 3, 12), "linear", antialias=True)
    wanted = jnp.concatenate([table[:first], cells.reshape(6, 12)])
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    own = positions(jnp.zeros((1, 16 + first, 12)), grid=(4, 4))[0]
    np.testing.assert_array_equal(own, table)
    assert tower(IMAGES[:, :8, :12])["tokens"].shape == (3, 6 + first, 12)


@pytest.mark.parametrize("class_token", [False, True])
def test_masked_patches_are_not_seen(class_token):
    tower = vision(class_token=class_token, pooler="class" if class_token else "map")
    masked, blank = np.array([[0, 5], [7, 2], [15, 3]]), jnp.asarray(RNG.normal(size=12))
    run = lambda images: tower(images, blank=(masked, blank))["embedding"]  # noqa: E731
    before = run(IMAGES)
    for example, hidden in enumerate(masked):
        for patch in range(16):
            row, column = np.divmod(patch, 4)
            images = IMAGES.copy()
            images[example, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] ^= 255
            if patch in (0, 2, 5, 15, 9):
                same = np.abs(run(images) - before).max(-1) < 1e-6
                assert same[example] == (patch in hidden) and same.sum() >= 2
