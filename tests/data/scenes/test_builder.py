import pathlib
import pickle
import subprocess
import sys

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from multimodal.data import scenes
from multimodal.errors import UserError

SMALL = {
    "train": 24,
    "validation": 8,
    "test": 128,
    "test_many": 8,
    "test_single": 16,
    "progress": False,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return scenes.prepare(str(tmp_path_factory.mktemp("data")), **SMALL)


def _shards(folder):
    return {path.name: path.read_bytes() for path in pathlib.Path(folder).glob("*array_record*")}


def test_a_record_is_a_plain_dict(folder):
    train = scenes.open_split(folder, "train")
    assert len(train) == 24
    record = train[5]
    assert record["key"] == "train/000005"
    assert all(isinstance(text, str) for text in record["captions"] + record["questions"])
    assert len(record["captions"]) == 5
    count = record["num_objects"]
    assert record["boxes"].shape == (count, 4)
    assert record["centres"].shape == (count, 2)
    assert record["shapes"].shape == (count,)
    assert record["truths"].dtype == bool
    assert record["shape_label"] == record["shapes"][0]
    assert record["colour_label"] == record["colours"][0]
    image = cv2.imdecode(np.frombuffer(record["image"], np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (32, 32, 3)


def test_numbers_have_one_row_an_object(folder):
    for record in (*scenes.open_split(folder, "train"), *scenes.open_split(folder, "test_many")):
        count = record["num_objects"]
        for name in ("shapes", "colours", "sizes", "places"):
            assert record[name].shape == (count,)
            assert record[name].dtype == np.int32
        assert record["centres"].shape == (count, 2)
        assert record["boxes"].shape == (count, 4)
        assert record["boxes"].dtype == np.float32


def test_any_reader_of_tfds_folders_opens_it_in_order(folder):
    source = tfds.builder_from_directory(folder).as_data_source("test+test_many")
    assert len(source) == 136
    assert source[0]["key"] == b"test/000000"
    assert source[130]["key"] == b"test_many/000002"
    assert source[130]["image"].startswith(b"\x89PNG")
    assert len(scenes.open_split(folder, "test+test_many")) == 136


def test_a_split_travels_to_another_process(folder):
    split = scenes.open_split(folder, "train")
    again = pickle.loads(pickle.dumps(split))
    assert again[7]["captions"] == split[7]["captions"]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(folder, tmp_path):
    again = scenes.prepare(str(tmp_path), **SMALL)
    assert _shards(again) == _shards(folder)
    other = scenes.prepare(str(tmp_path), **SMALL, seed=1)
    assert other != again
    assert _shards(other) != _shards(folder)


def test_what_is_there_is_kept_and_what_is_half_there_is_made_again(tmp_path):
    folder = pathlib.Path(scenes.prepare(str(tmp_path), **SMALL))
    shard = next(folder.glob("*train*"))
    before, stamp = shard.read_bytes(), shard.stat().st_mtime_ns
    assert scenes.prepare(str(tmp_path), **SMALL) == str(folder)
    assert shard.stat().st_mtime_ns == stamp
    shard.unlink()
    scenes.prepare(str(tmp_path), **SMALL)
    assert shard.read_bytes() == before
    (folder / "dataset_info.json").unlink()
    scenes.prepare(str(tmp_path), **SMALL)
    assert len(scenes.open_split(str(folder), "train")) == 24


def test_misuse_is_told_in_one_line(folder, tmp_path):
    with pytest.raises(UserError, match="unknown parameter 'trian'.*train"):
        scenes.prepare(str(tmp_path), trian=4)
    with pytest.raises(UserError, match="kind='films'"):
        scenes.prepare(str(tmp_path), kind="films")
    with pytest.raises(UserError, match="no split 'dev'.*validation"):
        scenes.open_split(folder, "dev")
    with pytest.raises(UserError, match="no data set in"):
        scenes.open_split(str(tmp_path), "train")


def test_no_tensorflow_is_imported_and_nothing_is_printed(tmp_path):
    code = (
        "import sys\n"
        "from multimodal.data import scenes\n"
        f"folder = scenes.prepare({str(tmp_path)!r}, **{SMALL!r})\n"
        "scenes.open_split(folder, 'train')[0]\n"
        "assert 'tensorflow' not in sys.modules and 'jax' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
