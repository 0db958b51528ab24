"""The classifier: its head begins at zero, its tower is a dual encoder's, pictures are normalised
once, with mixup or without."""

import jax
import jax.numpy as jnp
import numpy as np

from multimodal import config
from multimodal.models.build import build
from multimodal.preprocessing import Preprocessing

STACK = config.Transformer(width=32, depth=2, heads=4, mlp=64)
TOWER = config.ImageTower(image_size=16, patch_size=8, pooler="mean", transformer=STACK)
PREPROCESSING = Preprocessing(image_size=16)
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)


def classifier(**options):
    settings = config.Classifier({"image": TOWER}, classes=5, **options)
    return build(settings, PREPROCESSING, "float32")


def test_the_head_reads_what_the_tower_pools():
    model = classifier(head_bias_init=-10.0)
    params = model.init(jax.random.key(0))
    module = model.bind(params)
    np.testing.assert_array_equal(module({"image": IMAGES})["class_logits"], np.full((3, 5), -10.0))
    kernel = np.random.default_rng(1).normal(size=(32, 5)).astype(np.float32)
    features = np.asarray(module.encode("image", IMAGES))
    assert features.shape == (3, 32) and features.dtype == np.float32
    module = model.bind(params | {"head/kernel": jnp.asarray(kernel)})
    logits = module({"image": IMAGES})["class_logits"]
    np.testing.assert_allclose(logits, features @ kernel - 10, rtol=1e-5, atol=1e-5)


def test_its_tower_is_that_of_a_dual_encoder():
    dual = build(config.DualEncoder({"image": TOWER}, embed=32, pairs=()), PREPROCESSING, "float32")
    towers = {path: x.shape for path, x in dual.shapes().items()}
    shapes = {path: x.shape for path, x in classifier().shapes().items()}
    heads = {"head/kernel": (32, 5), "head/bias": (5,)}
    assert shapes == towers | heads
    params = dual.init(jax.random.key(0))
    pooled = dual.bind(params).towers["image"](IMAGES)["embedding"]
    given = params | {path: jnp.zeros(shape) for path, shape in heads.items()}
    np.testing.assert_array_equal(classifier().bind(given).encode("image", IMAGES), pooled)
