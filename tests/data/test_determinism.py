"""Every kind of source in one mixture: batches depend on the seed alone, whoever reads them."""

import csv
import dataclasses
import itertools
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow_datasets as tfds

from multimodal import config
from multimodal.config import Data, Holdout, Mixture, Part
from multimodal.data import array_record, scenes
from multimodal.data.pipeline import batches
from multimodal.preprocessing import Preprocessing
from tests.data.shards import encoded, members, picture, write_tar
from tests.data.test_huggingface import save

SIZE = Preprocessing(image_size=12, length=16)
AUGMENT = ({"op": "random_resized_crop"}, {"op": "flip"})
SPOKEN = {"text": "text", "image": "image"}


class Pets(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")
    code_path = None

    def _info(self):
        features = {
            "image": tfds.features.Image(encoding_format="png"),
            "text": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for i in range(6):
            yield i, {"image": encoded(picture(i)), "text": f"pet {i}"}


def _texts(i):
    return {"en": [f"a{i}", f"b{i}"], "de": f"eins {i}"}


def _part(kind, folder, monkeypatch):
    """Six records of one kind of source, some of them with several captions or languages."""
    numbers, place = range(6), folder / kind
    if kind == "huggingface":
        saved = save(place, numbers, image=lambda i: encoded(picture(i)))
        return Part(config.HuggingFace(str(saved)), fields=SPOKEN)
    place.mkdir()
    pictures = [encoded(picture(i)) for i in numbers]
    match kind:
        case "tar":
            write_tar(place / "0.tar", members(range(12)))
            fields = {"image": "png", "text": "json.captions"}
            return Part(config.Tar(str(place)), 2.0, fields, holdout=Holdout("json.group", 0.4))
        case "parquet":
            table = pa.table({"image": pictures, "text": [_texts(i) for i in numbers]})
            pq.write_table(table, place / "a.parquet", row_group_size=2)
            return Part(config.Parquet(str(place)), fields=SPOKEN)
        case "array_record":
            rows = [{"image": p, "text": _texts(i)} for i, p in enumerate(pictures)]
            array_record.write(str(place / "a.array_record"), rows)
            return Part(config.ArrayRecords(str(place)), fields=SPOKEN)
        case "tfds":
            Pets(data_dir=str(place), file_format="array_record").download_and_prepare()
            return Part(config.Tfds(str(place), split="train[1:]"), fields=SPOKEN)
        case "scenes":
            sizes = {"train": 8, "validation": 4, "test": 128, "test_many": 2, "test_single": 2}
            made = scenes.prepare(str(place), progress=False, **sizes)
            monkeypatch.setattr(scenes, "prepare", lambda *args, **options: made)
            return Part(config.Scenes(), fields={"image": "image", "text": "captions"})
    for i, data in enumerate(pictures):
        (place / f"{i}.png").write_bytes(data)
    if kind == "texts":
        for i in numbers:
            (place / f"{i}.txt").write_text(f"beside {i}")
        return Part(config.Folder(str(place)), fields=SPOKEN)
    rows = [{"file": f"{i}.png", "text": _texts(i)} for i in numbers]
    if kind == "jsonl":
        (place / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    else:
        with open(place / "t.csv", "w", newline="") as file:
            csv.writer(file).writerows([("file", "text"), *((r["file"], "a, b") for r in rows)])
    return Part(config.Folder(str(place)), fields=SPOKEN)


KINDS = ["tar", "parquet", "array_record", "tfds", "scenes", "huggingface", "texts", "jsonl", "csv"]


@pytest.fixture
def data(tmp_path, monkeypatch):
    parts = {kind: _part(kind, tmp_path, monkeypatch) for kind in KINDS}
    return Data(Mixture(parts), augment=AUGMENT, languages={"en": 1.0, "de": 2.0})


def _take(data, count, **options):
    with batches(data, SIZE, batch_size=16, seed=5, **options) as iterator:
        return list(itertools.islice(iterator, count))


def _assert_same(wanted, found):
    for a, b in zip(wanted, found, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def _joined(parts):
    names = parts[0]
    return {
        n: sum((p[n] for p in parts), [])
        if isinstance(names[n], list)
        else np.concatenate([p[n] for p in parts])
        for n in names
    }


def test_order_captions_and_augmentation_are_the_same_for_any_processes_and_workers(data):
    alone = _take(data, 8)
    seen = {key.partition("/")[0] for batch in alone for key in batch["keys"]}
    assert seen == set(KINDS)
    assert all(batch["valid"].all() for batch in alone)
    for count in (2, 4):
        parts = [_take(data, 8, process_index=i, process_count=count) for i in range(count)]
        _assert_same(alone, [_joined(split) for split in zip(*parts, strict=True)])
    two = dataclasses.replace(data, workers=2)
    _assert_same(alone[3:], _take(two, 5, start_batch=3))


def test_replacement_and_windows_too(data):
    single = dataclasses.replace(data, source=data.source.parts["jsonl"].source, fields=SPOKEN)
    for changed in ({"sampling": "replacement"}, {"group": 2, "window": 2}):
        chosen = dataclasses.replace(single, **changed)
        alone = _take(chosen, 4)
        parts = [_take(chosen, 4, process_index=i, process_count=2) for i in range(2)]
        _assert_same(alone, [_joined(split) for split in zip(*parts, strict=True)])
        _assert_same(alone[2:], _take(chosen, 2, start_batch=2))
        assert any((a["image"] != b["image"]).any() for a, b in itertools.pairwise(alone))
