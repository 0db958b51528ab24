"""A user's paths and files to an evaluator's settings, and what is wrong with them in one line."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from multimodal import config
from multimodal.data import array_record
from multimodal.errors import UserError
from multimodal.evaluation.own_data import evaluator_for
from tests.evaluation import toy


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """`classes/cat/0.png` ..., a CSV with texts and numbers, ArrayRecords, and an empty CSV."""
    root = tmp_path_factory.mktemp("own")
    for i in range(6):
        folder = root / "classes" / ("cat", "dog")[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.full((8, 8, 3), 40 * i, np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    with open(root / "table.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "caption", "label", "album"])
        for i in range(6):
            rows.writerow([f"classes/{('cat', 'dog')[i % 2]}/{i}.png", f"text {i}", i % 2, i // 2])
    (root / "empty.csv").write_text("file,caption\n")
    array_record.write(str(root / "own.array_record"), toy.make_records())
    (root / "names.json").write_text(json.dumps(["cat", "dog"]))
    return root


def test_a_table_for_retrieval(root):
    found = evaluator_for(
        "retrieval", data=f"{root}/table.csv", option=["by=album", "batch_size=4"]
    )
    assert isinstance(found, config.Retrieval)
    assert found.data.fields["text"] == "caption" and set(found.data.fields) == {"image", "text"}
    assert (found.by, found.batch_size, found.data.holdout) == ("album", 4, None)


def test_fields_and_records_are_the_users_choice(root):
    found = evaluator_for(
        "retrieval",
        data=f"{root}/own.array_record",
        fields=["image=image,text=captions"],
        where=["count=1|2"],
        holdout="key:0.5",
    )
    assert found.data.fields == {"image": "image", "text": "captions"}
    assert set(found.data.where["count"]) == {"1", "2", 1, 2}
    assert found.data.holdout == config.Holdout(by="key", share=0.5, keep="test")


def test_the_column_of_pictures_is_the_users_choice(root):
    (root / "photo.csv").write_text("photo,caption\nclasses/cat/0.png,x\n")
    found = evaluator_for("retrieval", data=f"{root}/photo.csv", fields=["image=photo"])
    assert found.data.source == config.Folder(f"{root}/photo.csv", image="photo")
    assert found.data.fields == {"image": "image", "text": "caption"}


def test_folders_of_classes_name_them(root):
    found = evaluator_for("zero_shot", data=f"{root}/classes")
    assert found.data.fields["label"] == "class" and found.classes == ()
    named = evaluator_for("zero_shot", data=f"{root}/classes", classes=f"{root}/names.json")
    assert named.data.fields["label"] == "label" and named.classes == ("cat", "dog")


def test_probes_have_a_part_to_train_on(root):
    found = evaluator_for("knn", data=f"{root}/classes", holdout="key:0.4", option=["k=3"])
    assert found.train is None and found.data.holdout.keep == "test" and found.k == 3
    found = evaluator_for(
        "linear_probe", data=f"{root}/table.csv", train_data=f"{root}/classes", option=["c=[1,10]"]
    )
    assert found.train.source.path.endswith("classes") and found.c == (1.0, 10.0)


@pytest.mark.parametrize(
    "task, flags, words",
    [
        ("retreival", {}, "no such task; did you mean 'retrieval'"),
        ("knn", {"data": ""}, "needs --data=PATH"),
        ("knn", {}, "needs either --train_data=PATH, or --holdout"),
        ("knn", {"holdout": "key:0.2", "train_data": "classes"}, "needs either"),
        ("knn", {"holdout": "key"}, "--holdout=key: give a field and the share"),
        ("knn", {"holdout": "key:2"}, "--holdout=key:2: give a field and the share"),
        ("knn", {"holdout": "keys:0.2"}, "--data=.*: no field 'keys' among key, "),
        ("knn", {"holdout": "key:0.4", "option": ["kk=2"]}, "option.kk: .* did you mean 'k'"),
        ("knn", {"holdout": "key:0.4", "option": ["k=two"]}, "option.k: expected int"),
        ("knn", {"holdout": "key:0.4", "option": ["train=x"]}, "train is not an option here"),
        ("knn", {"holdout": "key:0.4", "classes": "names.json"}, "--classes: knn does not use"),
        ("retrieval", {}, "no field of texts among .*class.*--fields=text=FIELD"),
        ("retrieval", {"templates": "names.json"}, "--templates: retrieval does not use it"),
        ("retrieval", {"data": "empty.csv"}, "empty.csv: it has no rows"),
        ("retrieval", {"data": "nowhere"}, "no such file or folder: .*nowhere"),
        ("retrieval", {"data": "table.csv", "where": ["album=9"]}, "--data=.*no record"),
        ("retrieval", {"data": "table.csv", "where": ["album"]}, "--where=album: write it as"),
        ("retrieval", {"data": "table.csv", "fields": ["texts=a"]}, "reads image and text"),
        ("retrieval", {"data": "table.csv", "fields": ["text=a"]}, "no record has 'a'; .*caption"),
        ("retrieval", {"data": "table.csv", "split": "test"}, "--split=test: .* has no splits"),
        ("zero_shot", {"fields": ["label=label"]}, "'label', are not names; give these with --cl"),
        ("zero_shot", {"data": "empty.csv"}, "empty.csv: it has no rows"),
    ],
    ids=str,
)
def test_what_cannot_work_is_told_in_terms_of_the_flags(root, task, flags, words):
    for name in ("data", "train_data", "classes", "templates"):
        if flags.get(name):
            flags = flags | {name: f"{root}/{flags[name]}"}
    with pytest.raises(UserError, match=words) as error:
        evaluator_for(task, **({"data": f"{root}/classes"} | flags))
    assert "\n" not in str(error.value)
