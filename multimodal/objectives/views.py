"""Random views of pictures, made on the device from the batch as it comes."""

import math

import jax
import jax.numpy as jnp

# Shares of the picture's area that global and local crops take (DINO, Caron et al. 2021).
GLOBAL_AREA, LOCAL_AREA = (0.4, 1.0), (0.05, 0.4)
GREY = (0.299, 0.587, 0.114)


def random_views(
    key: jax.Array, images: jax.Array, count: int, size: int, area: tuple[float, float]
) -> jax.Array:
    """`count` crops of each picture as uint8 [batch, count, size, size, 3], one's unlike another's.

    `images`: uint8 [batch, height, width, 3]. A crop takes a share of the picture drawn from
    `area`, sides from 3:4 to 4:3, is resized with an antialiased triangle filter, turned left to
    right half of the time, and its colours are changed as in DINO but for hue, blur and
    solarisation.
    """
    keys = jax.random.split(key, (images.shape[0], count))
    view = lambda key, image: _view(key, image.astype(jnp.float32), size, area)  # noqa: E731
    views = jax.vmap(jax.vmap(view, (0, None)))(keys, images)
    return jnp.clip(jnp.round(views), 0, 255).astype(jnp.uint8)


def _view(key: jax.Array, image: jax.Array, size: int, area: tuple[float, float]) -> jax.Array:
    crop_key, flip_key, colour_key = jax.random.split(key, 3)
    x = _crop(crop_key, image, size, area)
    x = jnp.where(jax.random.bernoulli(flip_key), x[:, ::-1], x)
    return _recolour(colour_key, x)


def _crop(key: jax.Array, image: jax.Array, size: int, area: tuple[float, float]) -> jax.Array:
    share_key, ratio_key, place_key = jax.random.split(key, 3)
    whole = jnp.array(image.shape[:2], jnp.float32)
    share = jax.random.uniform(share_key, minval=area[0], maxval=area[1])
    ratio = jnp.exp(jax.random.uniform(ratio_key, minval=-1, maxval=1) * math.log(4 / 3))
    sides = jnp.sqrt(share * whole.prod() * jnp.stack([ratio, 1 / ratio]))
    sides = jnp.minimum(sides, whole)
    start = jax.random.uniform(place_key, (2,)) * (whole - sides)
    scale = size / sides
    shape = (size, size, image.shape[-1])
    return jax.image.scale_and_translate(image, shape, (0, 1), scale, -start * scale, "linear")


def _recolour(key: jax.Array, x: jax.Array) -> jax.Array:
    """Brightness and contrast by up to 40 %, saturation by up to 20 %, with probability 0.8; grey
    with 0.2. Values stay within [0, 255]."""
    some_key, grey_key, change_key = jax.random.split(key, 3)
    change = jax.random.uniform(change_key, (3,), minval=-1, maxval=1) * jnp.array([0.4, 0.4, 0.2])
    factors = 1 + jnp.where(jax.random.bernoulli(some_key, 0.8), change, 0)
    brightness, contrast, saturation = factors
    x = jnp.clip(x * brightness, 0, 255)
    mean = _grey(x).mean()
    x = jnp.clip(mean + (x - mean) * contrast, 0, 255)
    saturation = jnp.where(jax.random.bernoulli(grey_key, 0.2), 0, saturation)
    grey = _grey(x)
    return jnp.clip(grey + (x - grey) * saturation, 0, 255)


def _grey(x: jax.Array) -> jax.Array:
    return (x * jnp.array(GREY)).sum(-1, keepdims=True)
