"""A path is enough to know how to read it."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from multimodal import config
from multimodal.data import array_record
from multimodal.data.detect import default_fields, detect, names, parse_holdout
from multimodal.errors import UserError
from tests.data.shards import encoded, members, picture, write_tar


@pytest.fixture
def folder(tmp_path):
    for name in ("tars", "parquets", "records", "photos", "classes/cat", "classes/dog"):
        (tmp_path / name).mkdir(parents=True)
    for i in range(2):
        write_tar(tmp_path / f"tars/{i}.tar", members(range(i, i + 1)))
        pq.write_table(
            pa.table({"image": [b"x"], "title": ["t"]}), tmp_path / f"parquets/{i}.parquet"
        )
    array_record.write(str(tmp_path / "records/a.array_record"), [{"captions": ["a"], "label": 3}])
    for name in ("photos/a.png", "classes/cat/1.png", "classes/dog/1.png"):
        (tmp_path / name).write_bytes(encoded(picture(0)))
    (tmp_path / "photos/t.tsv").write_text("file\tcaption\na.png\tx\n")
    return tmp_path


@pytest.mark.parametrize(
    ("path", "kind", "fields"),
    [
        ("tars", config.Tar, {"image": "jpg|jpeg|png|webp", "text": "txt", "label": "cls"}),
        (
            "tars/{0..1}.tar",
            config.Tar,
            {"image": "jpg|jpeg|png|webp", "text": "txt", "label": "cls"},
        ),
        ("parquets", config.Parquet, {"image": "image", "text": "title"}),
        ("parquets/*.parquet", config.Parquet, {"image": "image", "text": "title"}),
        ("records", config.ArrayRecords, {"text": "captions", "label": "label"}),
        ("photos", config.Folder, {"image": "image", "text": "caption"}),
        ("photos/t.tsv", config.Folder, {"image": "image", "text": "caption"}),
        ("classes", config.Folder, {"image": "image", "label": "label"}),
    ],
)
def test_kinds_and_fields(folder, monkeypatch, path, kind, fields):
    monkeypatch.chdir(folder)
    source = detect(path)
    assert source == kind(f"{folder}/{path}")
    assert default_fields(source, "elsewhere") == fields


def test_names_in_capitals_and_records_that_lack_a_field(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"x")
    (tmp_path / "t.csv").write_text("File,Caption\na.jpg,x\n")
    assert default_fields(detect(f"{tmp_path}")) == {"image": "image", "text": "Caption"}
    write_tar(tmp_path / "a.tar", [("./t.csv", b"file"), ("./a.jpg", b"x"), ("./a.txt", b"y")])
    source = detect(f"{tmp_path}/a.tar")
    assert default_fields(source) == {"image": "jpg|jpeg|png|webp", "text": "txt"}
    assert names(source) == "csv, jpg, txt"


def test_no_records_say_where(tmp_path):
    write_tar(tmp_path / "empty.tar", [])
    with pytest.raises(UserError, match="data: .*empty.tar: it has no records"):
        default_fields(detect(f"{tmp_path}/empty.tar"))


def test_several_joined(folder):
    source = detect(f"{folder}/tars/0.tar::{folder}/tars/1.tar")
    assert source == config.Tar(f"{folder}/tars/0.tar::{folder}/tars/1.tar")


def test_what_is_not_there_or_not_known_is_one_line(folder):
    (folder / "note.docx").write_bytes(b"")
    for path, message in (
        ("nowhere", "no such file or folder: .*nowhere"),
        ("tars/*.zip", "no such file: .*zip"),
        ("note.docx", "cannot tell what .*note.docx is; known are .tar"),
    ):
        with pytest.raises(UserError, match=message):
            detect(f"{folder}/{path}")


def test_a_holdout_is_written_in_a_word():
    assert parse_holdout("key:0.2", "test") == config.Holdout(by="key", share=0.2, keep="test")
    found = parse_holdout("json.album:0.1:3", "train")
    assert found == config.Holdout(by="json.album", share=0.1, keep="train", seed=3)


@pytest.mark.parametrize(
    "text", ["key", "key:0", "key:1.5", "key:a", ":0.2", "key:0.2:x", "key:.."]
)
def test_what_is_no_holdout_is_refused(text):
    with pytest.raises(UserError, match=f"--holdout={text}: give a field and the share"):
        parse_holdout(text, "test")
