import dataclasses
import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from multimodal.config import Data, Holdout, Tar
from multimodal.data.images import decode
from multimodal.data.pipeline import batches, evaluation_batches
from multimodal.data.tokenizers import ByteTokenizer
from multimodal.errors import UserError
from multimodal.preprocessing import Preprocessing
from tests.data.shards import encoded, members, picture, write_tar
from tests.shared import shared_path

SIZE = Preprocessing(image_size=24, length=20)
AUGMENT = ({"op": "random_resized_crop"}, {"op": "flip"}, {"op": "color_jitter", "brightness": 0.4})


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tars")
    for shard, (first, last) in enumerate([(0, 6), (6, 12), (12, 17), (17, 21)]):
        write_tar(folder / f"{shard}.tar", members(range(first, last)))
    fields = {"image": "png", "text": "json.captions", "label": "cls"}
    return Data(source=Tar(f"{folder}/{{0..3}}.tar"), fields=fields, augment=AUGMENT)


def _take(count, *args, **options):
    with batches(*args, **options) as iterator:
        return list(itertools.islice(iterator, count))


def _same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def _joined(parts):
    """The global batch from the parts of its processes."""
    return {
        name: sum((p[name] for p in parts), [])
        if isinstance(parts[0][name], list)
        else np.concatenate([p[name] for p in parts])
        for name in parts[0]
    }


def test_shapes_and_types(data):
    (batch,) = _take(1, data, SIZE, batch_size=8, seed=0)
    kinds = {name: (v.shape, str(v.dtype)) for name, v in batch.items() if hasattr(v, "dtype")}
    assert kinds == {
        "image": ((8, 24, 24, 3), "uint8"),
        "text": ((8, 20), "int32"),
        "label": ((8,), "int32"),
        "valid": ((8,), "bool"),
        "position": ((8,), "int64"),
    }
    assert batch["valid"].all()
    assert batch["broken"] == []
    assert batch["position"].tolist() == list(range(8))
    assert batch["label"].tolist() == [int(key) % 10 for key in batch["keys"]]


def test_the_same_for_any_number_of_processes_and_workers(data):
    options = {"batch_size": 8, "seed": 3}
    alone = _take(6, data, SIZE, **options)
    for count in (2, 4):
        parts = [
            _take(6, data, SIZE, **options, process_index=i, process_count=count)
            for i in range(count)
        ]
        for whole, split in zip(alone, zip(*parts, strict=True), strict=True):
            _same(whole, _joined(split))
    workers = dataclasses.replace(data, workers=2)
    for whole, other in zip(alone, _take(6, workers, SIZE, **options), strict=True):
        _same(whole, other)


def test_starting_at_a_batch_equals_skipping_to_it(data):
    options = {"batch_size": 8, "seed": 3}
    alone = _take(9, data, SIZE, **options)
    for start, workers in ((5, 0), (5, 2), (8, 0)):
        later = dataclasses.replace(data, workers=workers)
        for whole, other in zip(
            alone[start:], _take(9 - start, later, SIZE, **options, start_batch=start), strict=True
        ):
            _same(whole, other)


def test_every_record_once_an_epoch_in_another_order_each(data):
    keys = list(itertools.chain(*(b["keys"] for b in _take(9, data, SIZE, batch_size=7, seed=1))))
    epochs = [keys[i : i + 21] for i in (0, 21, 42)]
    for epoch in epochs:
        assert sorted(epoch) == [f"{i:04d}" for i in range(21)]
    assert len({tuple(e) for e in epochs}) == 3
    other = list(itertools.chain(*(b["keys"] for b in _take(3, data, SIZE, batch_size=7, seed=2))))
    assert other != epochs[0]


def test_neighbours_stay_together(data):
    grouped = dataclasses.replace(data, group=4)
    keys = list(
        itertools.chain(*(b["keys"] for b in _take(6, grouped, SIZE, batch_size=7, seed=1)))
    )
    for epoch in (keys[:21], keys[21:]):
        blocks = np.array([int(k) for k in epoch[:20]]).reshape(5, 4)
        assert (blocks == blocks[:, :1] + np.arange(4)).all()
        assert sorted(blocks[:, 0]) == [0, 4, 8, 12, 16]
        assert epoch[20] == "0020"


def test_augmentation_and_caption_change_with_the_epoch(data):
    seen = {}
    for batch in _take(21, data, SIZE, batch_size=21, seed=0):
        for key, image, text in zip(batch["keys"], batch["image"], batch["text"], strict=True):
            images, texts = seen.setdefault(key, (set(), []))
            images.add(image.tobytes())
            texts.append(ByteTokenizer().decode(text))
    for key, (images, texts) in seen.items():
        assert len(images) == 21
        assert set(texts) == {f"c{int(key)}{letter}" for letter in "abc"}
    first = [texts[0][-1] for _, texts in seen.values()]
    assert {first.count(letter) for letter in "abc"} != {21}


def test_fewer_records_than_the_batch(data):
    (batch,) = _take(1, data, SIZE, batch_size=50, seed=0)
    for epoch in (batch["keys"][:21], batch["keys"][21:42]):
        assert sorted(epoch) == [f"{i:04d}" for i in range(21)]
    assert batch["valid"].all()


def test_unshuffled_is_the_order_of_the_source(data):
    plain = dataclasses.replace(data, shuffle=False, fields={"text": "txt"}, augment=())
    (batch,) = _take(1, plain, SIZE, batch_size=21, seed=0)
    assert batch["keys"] == [f"{i:04d}" for i in range(21)]
    assert [ByteTokenizer().decode(t) for t in batch["text"]] == [f"caption {i}" for i in range(21)]
    assert "image" not in batch
    assert "label" not in batch


def test_lower_case_belongs_to_the_preprocessing(tmp_path):
    write_tar(tmp_path / "a.tar", [("a.txt", b"A Red CAT")])
    data = Data(source=Tar(f"{tmp_path}/a.tar"), fields={"text": "txt"})
    for lowercase, wanted in ((True, "a red cat"), (False, "A Red CAT")):
        chosen = dataclasses.replace(SIZE, lowercase=lowercase)
        (batch,) = _take(1, data, chosen, batch_size=1, seed=0)
        assert ByteTokenizer().decode(batch["text"][0]) == wanted


def test_where_and_holdout(data):
    def keys(**options):
        chosen = dataclasses.replace(data, **options)
        parts = evaluation_batches(chosen, SIZE, batch_size=4)
        return [k for b in parts for k, v in zip(b["keys"], b["valid"], strict=True) if v]

    assert keys(where={"json.even": (1,)}) == [f"{i:04d}" for i in range(1, 21, 2)]
    assert keys(where={"json.captions": ("c3a", "c7b")}) == ["0003", "0007"]
    train = keys(holdout=Holdout("json.group", 0.4))
    test = keys(holdout=Holdout("json.group", 0.4, "test"))
    assert sorted(train + test) == [f"{i:04d}" for i in range(21)]
    assert train
    assert test
    groups = [{int(k) // 3 for k in part} for part in (train, test)]
    assert not groups[0] & groups[1]


def test_evaluation_sees_every_example_once_and_plainly(data):
    images = {f"{i:04d}": decode(encoded(picture(i))) for i in range(21)}
    for batch_size, count in ((8, 1), (8, 2), (8, 4), (21, 1), (64, 2)):
        parts = [
            list(
                evaluation_batches(
                    dataclasses.replace(data, workers=1 if batch_size == 64 else 0),
                    dataclasses.replace(SIZE, image_size=40),
                    batch_size=batch_size,
                    process_index=i,
                    process_count=count,
                    extra=("json.even", "label", "json.none"),
                )
            )
            for i in range(count)
        ]
        whole = [_joined(split) for split in zip(*parts, strict=True)]
        assert len(whole) == -(-21 // batch_size)
        assert {b["image"].shape for b in whole} == {(batch_size, 40, 40, 3)}
        assert [b["position"][0] for b in whole] == list(range(0, 21, batch_size))
        rows = [
            {name: b[name][i] for name in b if name != "broken"}
            for b in whole
            for i in np.flatnonzero(b["valid"])
        ]
        assert [row["keys"] for row in rows] == [f"{i:04d}" for i in range(21)]
        for i, row in enumerate(rows):
            assert row["texts"] == [f"c{i}a", f"c{i}b", f"c{i}c"]
            assert (row["json.even"], row["label"], row["json.none"]) == (i % 2, i % 10, None)
            np.testing.assert_array_equal(row["image"], images[row["keys"]][:, 8:48])
        pads = [i for b in whole for i in np.flatnonzero(~b["valid"])]
        assert len(pads) == len(whole) * batch_size - 21
        assert not whole[-1]["image"][~whole[-1]["valid"]].any()


def test_wrong_settings_end_in_one_line(data, tmp_path):
    def refused(message, preprocessing=SIZE, batch_size=8, count=1, **options):
        with pytest.raises(UserError, match=message) as caught:
            batches(
                dataclasses.replace(data, **options),
                preprocessing,
                batch_size=batch_size,
                seed=0,
                process_count=count,
            )
        assert "\n" not in str(caught.value)

    refused("no record has 'jgp'; records have: cls, json, key, png, txt", fields={"image": "jgp"})
    refused("no record has 'json.name'", fields={"text": "json.name"})
    refused("data.fields.picture: a model reads only image", fields={"picture": "png"})
    refused("name at least one", fields={})
    refused("no record of .* is left", where={"json.even": (7,)})
    refused("data.holdout.by: no record has 'json.gruop'; ", holdout=Holdout("json.gruop"))
    refused("data.where.evn: no record has 'evn'; .*json", where={"evn": (1,)})
    refused("all of 64 records drawn are broken; .*text is neither", fields={"text": "cls"})
    refused("batch_size=8 does not divide among 3", count=3)
    refused("data.group=0", group=0)
    refused(r"data.augment\[0\].op: no transform 'filp'", augment=({"op": "filp"},))
    refused("'bites' is neither", dataclasses.replace(SIZE, tokenizer="bites"))
    refused("data.window=0: must be positive", window=0)
    refused("replacement' draws each record by itself", sampling="replacement", group=2)
    refused("'a photo' has no {} for the text", templates=("a {}", "a photo"))
    refused("data.languages.de=-1.0: may not", languages={"de": -1.0})
    refused("data.languages: every weight is 0", languages={"de": 0.0})
    refused("no such file: .*none.tar", source=Tar(str(tmp_path / "none.tar")))
    with pytest.raises(UserError, match="'texts' is not a name"):
        evaluation_batches(data, SIZE, batch_size=8, extra=("texts",))


def test_a_field_that_only_the_records_kept_lack_is_not_called_misspelt(tmp_path):
    """As after a tar was cut short, when a small held-out side has nothing but the torn record."""
    png = encoded(picture(0))
    write_tar(
        tmp_path / "a.tar",
        [("0.png", png), ("0.txt", b"whole"), ("0.cls", b"0"), ("1.png", png), ("1.cls", b"1")],
    )
    fields = {"image": "png", "text": "txt"}
    data = Data(source=Tar(str(tmp_path / "a.tar")), fields=fields, where={"cls": (1,)})
    with pytest.raises(UserError, match="drawn are broken; 1: no field 'txt' among key, png"):
        batches(data, SIZE, batch_size=8, seed=0)


def test_close_ends_reading_ahead(data):
    iterator = batches(dataclasses.replace(data, workers=1), SIZE, batch_size=8, seed=0)
    next(iterator)
    iterator.close()
    iterator.close()
    assert next(iterator, None) is None


def test_workers_end_with_a_killed_trainer(data, tmp_path):
    script = tmp_path / "train.py"
    script.write_text(
        "import multiprocessing\n"
        "from multimodal.config import Data, Tar\n"
        "from multimodal.data.pipeline import batches\n"
        "from multimodal.preprocessing import Preprocessing\n"
        "if __name__ == '__main__':\n"
        f"    data = Data(source=Tar({data.source.path!r}), fields={{'text': 'txt'}}, workers=2)\n"
        "    iterator = batches(data, Preprocessing(), batch_size=8, seed=0)\n"
        "    next(iterator)\n"
        "    print(*(p.pid for p in multiprocessing.active_children()), flush=True)\n"
        "    while True: next(iterator)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as trainer:
        workers = [int(pid) for pid in trainer.stdout.readline().split()]
        trainer.kill()
    assert len(workers) == 2
    for _ in range(200):
        if not any(Path(f"/proc/{pid}").exists() for pid in workers):
            return
        time.sleep(0.05)
    raise AssertionError(f"still there: {workers}")


def test_pictograms_split_by_group():
    path = str(shared_path("data/emoji-train.tar"))
    sides = []
    for keep in ("train", "test"):
        data = Data(
            source=Tar(path),
            fields={"image": "png", "text": "txt"},
            holdout=Holdout("json.split_group", 0.1, keep),
        )
        parts = list(evaluation_batches(data, SIZE, batch_size=512, extra=("json.split_group",)))
        assert sum(len(b["broken"]) for b in parts) == 0
        sides.append([g for b in parts for g in b["json.split_group"] if g is not None])
    assert len(sides[0]) + len(sides[1]) == 2648
    assert not set(sides[0]) & set(sides[1])
    assert 0.05 < len(set(sides[1])) / len(set(sides[0] + sides[1])) < 0.15


def test_photos_with_five_captions():
    path = shared_path("data/coco-open-train.tar")
    fields = {"image": "jpg|png", "text": "json.captions"}
    data = Data(source=Tar(path.name), fields=fields, augment=AUGMENT)
    parts = list(evaluation_batches(data, SIZE, batch_size=32, data_dir=str(path.parent)))
    assert sum(b["valid"].sum() for b in parts) == 87
    assert {len(t) for b in parts for t in b["texts"] if t} <= {5, 6}
    (batch,) = _take(1, data, SIZE, batch_size=16, seed=0, data_dir=str(path.parent))
    assert batch["valid"].all()
    assert batch["image"].std() > 20


def test_features_computed_beforehand(tmp_path):
    vectors = [[0.5, -1.0, 2.0], [1.0, 2.0], [3.0, 4.0, 5.0]]
    write_tar(
        tmp_path / "a.tar",
        [(f"{i}.json", json.dumps({"v": v}).encode()) for i, v in enumerate(vectors)]
        + [("3.f32", np.array([7, 8, 9], "<f4").tobytes()), ("4.f32", b"abc")],
    )
    fields = {"image_features": "f32|json.v"}
    data = Data(source=Tar(f"{tmp_path}/a.tar"), fields=fields, shuffle=False)
    (batch,) = _take(1, data, SIZE, batch_size=5, seed=0)
    assert batch["valid"].tolist() == [True, False, True, True, False]
    zeros = [0.0] * 3
    assert batch["image_features"].tolist() == [vectors[0], zeros, vectors[2], [7, 8, 9], zeros]
    assert batch["image_features"].dtype == np.float32
    assert dict(batch["broken"])["1"] == "image_features have shape (2,), not (3,)"
    (batch,) = evaluation_batches(data, SIZE, batch_size=5)
    assert batch["image_features"].shape == (5, 3)
