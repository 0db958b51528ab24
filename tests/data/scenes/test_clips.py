import re

import cv2
import numpy as np
import pytest

from multimodal.data import scenes
from multimodal.data.scenes import clips

PARAMS = clips.ClipParams(train=96, validation=48, test=48)


@pytest.fixture(scope="module")
def drawn():
    return {split: list(clips.records(PARAMS, split)) for split in clips.CLIP_SPLITS}


def _centre_of_mass(png):
    image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR).astype(float)
    weight = np.abs(image - np.median(image.reshape(-1, 3), axis=0)).max(axis=2)
    weight[weight < 24] = 0
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    return np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()


def test_the_pixels_move_as_the_caption_says(drawn):
    for record in drawn["train"] + drawn["test"]:
        assert len(record["frames"]) == 8
        seen = np.stack([_centre_of_mass(frame) for frame in record["frames"]])
        dx, dy = seen[-1] - seen[0]
        words = [{-1: "up", 1: "down"}.get(int(np.sign(round(dy / 4))), "")]
        words.append({-1: "left", 1: "right"}.get(int(np.sign(round(dx / 4))), ""))
        direction = " ".join(filter(None, words))
        assert scenes.DIRECTIONS[record["direction_label"]] == direction
        for caption in record["captions"]:
            said = re.findall("up left|up right|down left|down right|up|down|left|right", caption)
            assert said == [direction]
            assert scenes.SHAPES[record["shape_label"]] in caption
            assert scenes.COLOURS[record["colour_label"]] in caption
        assert np.all(np.abs(record["centres"]) <= 1)


def test_held_out_pairs_and_descriptions(drawn):
    def pairs(split):
        return {(r["shape_label"], r["colour_label"]) for r in drawn[split]}

    def told(split):
        names = ("shape_label", "colour_label", "size_label", "direction_label")
        return {tuple(r[name] for name in names) for r in drawn[split]}

    assert not (pairs("train") | pairs("validation")) & pairs("test")
    assert not told("train") & told("validation")


def test_clips_come_back_from_disk(tmp_path):
    folder = scenes.prepare(
        str(tmp_path), kind="clips", train=6, validation=2, test=2, frames=4, progress=False
    )
    record = scenes.open_split(folder, "train")[3]
    assert record["key"] == "train/000003"
    assert len(record["frames"]) == 4
    assert all(frame.startswith(b"\x89PNG") for frame in record["frames"])
    assert record["centres"].shape == (4, 2)
    assert 0 <= record["direction_label"] < 8
