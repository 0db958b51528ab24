import cv2
import numpy as np
import pytest

from multimodal.data.scenes import render
from multimodal.data.scenes.records import SceneParams, record, scenes
from multimodal.data.scenes.world import COLOURS, SHAPES, Object


def _decode(png):
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(float)


def _drawn(size, split="train", count=120):
    params = SceneParams(image_size=size, train=count, validation=count)
    for index, scene in enumerate(scenes(params, split)):
        yield record(params, split, index, scene)


@pytest.mark.parametrize("size", [32, 64, 224])
def test_boxes_hold_the_drawn_pixels_tightly(size):
    for item in _drawn(size, count=120 if size < 224 else 24):
        image = _decode(item["image"])
        assert image.shape == (size, size, 3)
        values, counts = np.unique(image.reshape(-1, 3), axis=0, return_counts=True)
        lightest = values[np.argsort(-counts)][:5]  # the ground is light and among the commonest
        ground = lightest[np.argmax(lightest.min(axis=1))]
        drawn = np.abs(image - ground).max(axis=2) > 24
        claimed = np.zeros_like(drawn)
        for x1, y1, x2, y2 in item["boxes"]:
            assert -0.001 <= x1 < x2 <= 1.001
            assert -0.001 <= y1 < y2 <= 1.001
            rows = slice(max(int(y1 * size), 0), int(np.ceil(y2 * size)))
            columns = slice(max(int(x1 * size), 0), int(np.ceil(x2 * size)))
            claimed[rows, columns] = True
            inside = drawn[rows, columns]
            # every side of the box is touched to within two pixels
            assert inside[:2].any()
            assert inside[-2:].any()
            assert inside[:, :2].any()
            assert inside[:, -2:].any()
        assert not (drawn & ~claimed).any()


def test_colours_are_true_and_far_apart():
    reference = np.array([render.RGB[name] for name in COLOURS], float)
    distance = np.linalg.norm(reference[:, None] - reference[None], axis=2)
    assert distance[~np.eye(len(COLOURS), dtype=bool)].min() > 60
    for item in _drawn(32):
        image = _decode(item["image"])
        for (x1, y1, x2, y2), colour in zip(item["boxes"], item["colours"], strict=True):
            part = image[int(y1 * 32) : int(y2 * 32) + 1, int(x1 * 32) : int(x2 * 32) + 1]
            pixels = part.reshape(-1, 3)
            # the commonest colour that is not the light ground
            values, counts = np.unique(pixels, axis=0, return_counts=True)
            dark = values.min(axis=1) < 200
            main = values[dark][np.argmax(counts[dark])]
            assert np.argmin(np.linalg.norm(reference - main, axis=1)) == colour


def test_shapes_differ_at_32_pixels():
    """Even the smallest objects in company: nearest of the clean masks under jitter."""

    def mask(shape, rng, width):
        x, y = 0.5 + rng.uniform(-0.015, 0.015, 2)
        thing = render.Placed(shape, float(x), float(y), width, (0.0, 0.0, 0.0))
        image = render.draw([thing], (255.0, 255.0, 255.0), 32).astype(float)
        return 255 - image[..., 0]

    rng = np.random.default_rng(0)
    width = render.TOGETHER[0]
    means = [np.mean([mask(s, rng, width) for _ in range(20)], axis=0) for s in range(8)]
    right = 0
    for shape in range(len(SHAPES)):
        for _ in range(20):
            seen = mask(shape, rng, width)
            right += int(np.argmin([np.abs(seen - mean).sum() for mean in means]) == shape)
    assert right / 160 > 0.95


def test_sizes_and_places_show():
    rng = np.random.default_rng(0)
    for count in (1, 2):
        widths = {0: [], 1: [], 2: []}
        for size in widths:
            for _ in range(50):
                scene = (Object(0, 0, size, 0), Object(0, 0, size, 8))[:count]
                placed = render.place(scene, rng)
                widths[size].append(placed[0].width)
                assert placed[0].x < 0.5
                assert placed[0].y < 0.5
        assert max(widths[0]) < min(widths[1])
        assert max(widths[1]) < min(widths[2])
    for size in range(3):  # alone: the three columns do not run into each other
        xs = [
            [render.place((Object(0, 0, size, place),), rng)[0].x for _ in range(50)]
            for place in (3, 4, 5)
        ]
        assert max(xs[0]) < min(xs[1]) - 0.03
        assert max(xs[1]) < min(xs[2]) - 0.03


def test_the_same_index_gives_the_same_bytes_in_any_order():
    params = SceneParams(train=40, validation=40)
    shown = list(scenes(params, "train"))
    forward = [record(params, "train", i, shown[i]) for i in range(12)]
    backward = [record(params, "train", i, shown[i]) for i in reversed(range(12))][::-1]
    assert all(
        np.array_equal(a[name], b[name])
        for a, b in zip(forward, backward, strict=True)
        for name in a
    )
    other = SceneParams(seed=1, train=40, validation=40)
    assert record(other, "train", 0, shown[0])["image"] != forward[0]["image"]
