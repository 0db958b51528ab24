import pickle
import shutil
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from multimodal import config
from multimodal.data import scenes
from multimodal.data.record import BrokenRecord
from multimodal.data.sources import open_source
from multimodal.data.tfds import TfdsSource, folder_of
from multimodal.errors import UserError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    sizes = {"train": 8, "validation": 4, "test": 128, "test_many": 2, "test_single": 2}
    return scenes.prepare(str(tmp_path_factory.mktemp("tfds")), progress=False, **sizes)


def test_records_are_those_of_the_builder(folder):
    for split, count in (
        ("train", 8),
        ("test_many", 2),
        ("train[2:5]", 3),
        ("test_many+train", 10),
    ):
        source = TfdsSource(folder, split)
        assert len(source) == count
    source, wanted = TfdsSource(folder, "train"), scenes.open_split(folder, "train")
    for i in range(8):
        record, expected = source[i], wanted[i]
        assert set(record) == set(expected)
        for name in ("key", "image", "captions", "num_objects", "shape_label"):
            assert record[name] == expected[name], name
            assert type(record[name]) is type(expected[name]), name
        for name in ("shapes", "boxes", "truths"):
            np.testing.assert_array_equal(record[name], expected[name])
    with pytest.raises(IndexError):
        source[8]


def test_only_the_fields_asked_for_are_parsed(folder):
    source = TfdsSource(folder, "train", ["captions"])
    assert set(source[3]) == {"key", "captions"}
    assert not {"tensorflow", "torch"} & set(sys.modules)
    assert pickle.loads(pickle.dumps(source))[3] == source[3]


def test_pictures_stay_encoded_and_texts_become_strings(tmp_path):
    class Toy(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")
        code_path = None

        def _info(self):
            features = tfds.features
            return tfds.core.DatasetInfo(
                builder=self,
                features=features.FeaturesDict(
                    {
                        "image": features.Image(shape=(None, None, 3), encoding_format="png"),
                        "text": features.Text(),
                        "label": features.ClassLabel(names=["cat", "dog"]),
                        "more": {"texts": features.Sequence(features.Text())},
                        "turns": features.Sequence({"who": features.Text(), "at": np.int64}),
                    }
                ),
            )

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            raise AssertionError("replaced below")

    from tests.data.shards import encoded, picture

    png = encoded(picture(0))
    (tmp_path / "0.png").write_bytes(png)
    example = {
        "image": str(tmp_path / "0.png"),
        "text": "é",
        "label": "dog",
        "more": {"texts": ["a", "b"]},
        "turns": [{"who": "x", "at": 1}, {"who": "y", "at": 2}],
    }
    Toy._generate_examples = lambda self: iter([("0", example)])
    builder = Toy(data_dir=str(tmp_path), file_format="array_record")
    builder.download_and_prepare()
    record = TfdsSource(folder_of("toy", str(tmp_path)), "train")[0]
    assert record == {
        "key": "train/0",
        "image": png,
        "text": "é",
        "label": 1,
        "more": {"texts": ["a", "b"]},
        "turns": {"who": ["x", "y"], "at": [1, 2]},
    }


def test_a_slice_changes_neither_a_record_nor_its_key(tmp_path):
    """A holdout by key hashes it."""

    class Numbers(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")
        code_path = None

        def _info(self):
            features = tfds.features.FeaturesDict({"text": tfds.features.Text()})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {"train": iter([(i, {"text": f"{i}"}) for i in range(11)])}

        def _generate_examples(self):
            raise AssertionError("given above")

    builder = Numbers(data_dir=str(tmp_path), file_format="array_record")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(num_shards=3))
    folder = folder_of("numbers", str(tmp_path))
    whole = TfdsSource(folder, "train")
    assert whole.shards == 3
    records = [whole[i] for i in range(11)]
    assert [r["key"] for r in records] == [f"train/{i}" for i in range(11)]
    for split, indices in (
        ("train[3:9]", range(3, 9)),
        ("train[:2]+train[9:]", (0, 1, 9, 10)),
        ("train[-1:]", (10,)),
    ):
        part = TfdsSource(folder, split)
        assert [part[i] for i in range(len(part))] == [records[i] for i in indices]


def test_generated_scenes_are_shards_of_their_own(folder, monkeypatch):
    monkeypatch.setattr(scenes, "prepare", lambda *args, **options: folder)
    assert TfdsSource(folder, "train").shards == 1
    assert open_source(config.Scenes()).shards == 8


def test_the_newest_version_below_a_name(tmp_path):
    for version in ("1.9.0", "1.10.0", "1.2.0"):
        (tmp_path / "name" / version).mkdir(parents=True)
        (tmp_path / "name" / version / "dataset_info.json").write_text("{}")
    assert folder_of("name", str(tmp_path)).endswith("/name/1.10.0")
    assert folder_of(str(tmp_path / "name" / "1.2.0"), "").endswith("/name/1.2.0")


def test_wrong_names_end_in_one_line(folder, tmp_path):
    with pytest.raises(UserError, match="no prepared data set at 'nmae'"):
        folder_of("nmae", str(tmp_path))
    for wrong in ((folder, "trian"), (str(tmp_path), "train")):
        with pytest.raises(UserError, match="cannot read split") as caught:
            TfdsSource(*wrong)
        assert "\n" not in str(caught.value)


def test_a_damaged_file_ends_in_one_line_or_broken_records(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (file,) = copy.glob("*-train.array_record-*")
    data = bytearray(file.read_bytes())
    file.write_bytes(data[:2000])
    with pytest.raises(UserError, match="cannot read split 'train'"):
        TfdsSource(str(copy), "train")
    data[2000:3000] = bytes(1000)
    file.write_bytes(data)
    source, broken = TfdsSource(str(copy), "train"), 0
    for i in range(8):
        try:
            source[i]
        except BrokenRecord as error:
            broken += 1
            assert error.key == f"train/{i}"
    assert 0 < broken < 8
