"""Random crops and colours of pictures."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from multimodal.objectives.views import LOCAL_AREA, _crop, _recolour, random_views

HEIGHT, WIDTH, SIZE, COUNT = 60, 48, 12, 400


def test_crops_lie_inside_the_picture_and_have_the_area_and_shape_asked_for():
    # Each pixel holds its own place, so that a crop tells where it was taken.
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32) + 0.5
    picture = jnp.asarray(np.stack([y, x, y], axis=-1))
    keys = jax.random.split(jax.random.key(0), COUNT)
    crop = functools.partial(_crop, image=picture, size=SIZE, area=LOCAL_AREA)
    crops = np.asarray(jax.jit(jax.vmap(crop))(keys))
    inner = crops[:, 2:-2, 2:-2]  # at the picture's edge the filter meets nothing
    rows, columns = inner[..., 0], inner[..., 1]
    step = np.diff(rows, axis=1).mean((1, 2)), np.diff(columns, axis=2).mean((1, 2))
    np.testing.assert_allclose(np.diff(rows, axis=1) - step[0][:, None, None], 0, atol=0.25)
    np.testing.assert_allclose(np.diff(columns, axis=2) - step[1][:, None, None], 0, atol=0.25)
    sides = [s * SIZE for s in step]
    area, ratio = sides[0] * sides[1] / (HEIGHT * WIDTH), sides[0] / sides[1]
    assert LOCAL_AREA[0] - 0.01 < area.min() < 0.08 and 0.37 < area.max() < LOCAL_AREA[1] + 0.01
    assert 3 / 4 - 0.02 < ratio.min() < 0.8 and 1.25 < ratio.max() < 4 / 3 + 0.02
    for places, side, limit in (
        (rows[:, :, 0], sides[0], HEIGHT),
        (columns[:, 0], sides[1], WIDTH),
    ):
        middle = places.mean(1)
        assert (middle - side / 2 > -0.2).all() and (middle + side / 2 < limit + 0.2).all()
        assert middle.std() > 0.1 * limit


def test_colours_change_most_of_the_time_and_sometimes_go():
    picture = jnp.asarray(np.random.default_rng(0).uniform(80, 170, (4, 4, 3)), jnp.float32)
    keys = jax.random.split(jax.random.key(0), 4000)
    found = np.asarray(jax.jit(jax.vmap(lambda key: _recolour(key, picture)))(keys))
    grey = np.ptp(found, axis=-1).max((1, 2)) < 1e-3
    same = np.abs(found - picture).max((1, 2, 3)) < 1e-3
    for share, wanted in ((grey.mean(), 0.2), (same.mean(), 0.2 * 0.8)):
        assert abs(share - wanted) < 5 * math.sqrt(wanted * (1 - wanted) / len(keys))
    brightness = found[~grey].mean((1, 2, 3)) / picture.mean()
    assert 0.6 - 0.01 < brightness.min() < 0.65 and 1.35 < brightness.max() < 1.4 + 0.01
    assert found.min() >= 0 and found.max() <= 255


def test_views_are_unlike_each_other_and_half_of_them_turned():
    ramp = np.broadcast_to(np.arange(32, dtype=np.uint8)[:, None] * 4, (32, 32, 3))
    images = jnp.asarray(np.broadcast_to(ramp, (150, 32, 32, 3)))  # brighter to the right
    draw = jax.jit(lambda key: random_views(key, images, 4, 8, (0.4, 1.0)))
    views = np.asarray(draw(jax.random.key(0)))
    assert views.shape == (150, 4, 8, 8, 3) and views.dtype == np.uint8
    assert len(np.unique(views.reshape(600, -1), axis=0)) > 550
    slopes = views[..., -1, 1].astype(int).mean(-1) - views[..., 0, 1].astype(int).mean(-1)
    assert abs((slopes < 0).mean() - 0.5) < 5 * math.sqrt(0.25 / 600)
    np.testing.assert_array_equal(draw(jax.random.key(0)), views)
