"""Folders of pictures: with a table of each kind, with texts beside, with a folder a class."""

import csv
import json
import pickle

import pytest

from multimodal.data.folder import open_folder
from multimodal.data.record import BrokenRecord
from multimodal.errors import UserError
from tests.data.shards import encoded, picture

ROWS = [
    ("a.png", 'says "hello", twice'),
    ("deep/b.png", "two\nlines; ünïcödé"),
    ("c.png", ""),
]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "deep").mkdir()
    for i, (name, _) in enumerate(ROWS):
        (tmp_path / name).write_bytes(encoded(picture(i)))
    return tmp_path


def _records(folder):
    return [
        {"key": name, "caption": text, "image": (folder / name).read_bytes()} for name, text in ROWS
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_csv_with_quotes_lines_and_delimiters_in_its_texts(folder, delimiter, end, encoding):
    with open(folder / "captions.csv", "w", newline="", encoding=encoding) as file:
        rows = csv.writer(file, delimiter=delimiter, lineterminator=end)
        rows.writerows([("file", "caption"), *ROWS[:2], (), ROWS[2]])
    for path in (folder, folder / "captions.csv"):
        source = pickle.loads(pickle.dumps(open_folder(str(path))))
        assert source.shards == 3
        assert [source[i] for i in (2, 0, 1)] == [_records(folder)[i] for i in (2, 0, 1)]


def test_jsonl_keeps_values_as_they_are_and_a_torn_line_is_one_broken_record(folder):
    lines = [json.dumps({"file_name": n, "captions": [t, "b"], "n": 1}) for n, t in ROWS]
    (folder / "metadata.jsonl").write_text("\n".join([lines[0], "", lines[1], '{"file_na', "3"]))
    source = open_folder(str(folder))
    assert len(source) == 4
    assert source[1] == {
        "key": "deep/b.png",
        "captions": [ROWS[1][1], "b"],
        "n": 1,
        "image": (folder / "deep/b.png").read_bytes(),
    }
    for i in (2, 3):
        with pytest.raises(BrokenRecord, match=f"metadata.jsonl/{i}: the line is no JSON object"):
            source[i]


def test_only_what_is_asked_for_is_read(folder):
    (folder / "t.csv").write_text("path,caption,n\ngone.png,a,1\na.png,b,2\n")
    source = open_folder(str(folder), fields=("n",))
    assert source[0] == {"key": "gone.png", "n": "1"}
    source = open_folder(str(folder), fields=("image",))
    assert source[1].keys() == {"key", "image"}
    with pytest.raises(BrokenRecord, match="gone.png: cannot read .*gone.png: No such file"):
        source[0]


def test_absolute_paths_another_table_and_another_column(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "x.png"
    elsewhere.write_bytes(b"bytes")
    (folder / "one.csv").write_text("file,caption\na.png,a\n")
    (folder / "two.tsv").write_text(f"caption\tWhere\nb\t{elsewhere}\n")
    with pytest.raises(UserError, match="say which of the tables in .*: one.csv, two.tsv"):
        open_folder(str(folder))
    source = open_folder(str(folder), table="two.tsv", image="Where")
    assert source[0] == {"key": str(elsewhere), "caption": "b", "image": b"bytes"}
    assert open_folder(str(folder), table="one.csv")[0]["caption"] == "a"


def test_one_json_list_is_no_jsonl(folder):
    (folder / "t.json").write_text('[\n{"file": "a.png"},\n{"file": "c.png"}\n]')
    with pytest.raises(UserError, match="t.json is one JSON list; write a line"):
        open_folder(str(folder), table="t.json")
    (folder / "T.CSV").write_text("file,caption\na.png,x\n")
    assert open_folder(str(folder))[0]["caption"] == "x"


def test_a_table_without_pictures(tmp_path):
    (tmp_path / "t.csv").write_text("key,question\nx,why\n,how\n")
    source = open_folder(str(tmp_path / "t.csv"))
    assert [source[i] for i in range(2)] == [
        {"key": "x", "question": "why"},
        {"key": "t.csv/1", "question": "how"},
    ]


def test_texts_beside_the_pictures(folder):
    for name, text in ROWS[:2]:
        (folder / name).with_suffix(".txt").write_text(text + "\n", encoding="utf-8-sig")
    source = open_folder(str(folder))
    assert [source[i].get("text") for i in range(3)] == [ROWS[0][1], None, ROWS[1][1]]
    assert source[2]["image"] == (folder / "deep/b.png").read_bytes()
    (folder / "a.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(BrokenRecord, match="a.png: cannot read .*a.txt: .*codec"):
        source[0]


def test_a_folder_a_class(tmp_path):
    for name in ("dog/2.JPG", "dog/x/1.png", "cat/9.jpeg", "owl/3.webp"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "dog/.hidden.png").write_bytes(b"x")
    source = open_folder(str(tmp_path), fields=("label", "class"))
    assert [source[i] for i in range(4)] == [
        {"key": "cat/9.jpeg", "class": "cat", "label": 0},
        {"key": "dog/2.JPG", "class": "dog", "label": 1},
        {"key": "dog/x/1.png", "class": "dog", "label": 1},
        {"key": "owl/3.webp", "class": "owl", "label": 2},
    ]


def test_pictures_alone(folder):
    source = open_folder(str(folder))
    assert [source[i].keys() for i in range(3)] == [{"key", "image"}] * 3


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"file,caption,caption\na.png,a,b\n", r"the header of .*t.csv names \['caption'\] twice"),
        (b"", "the header of .*t.csv is empty"),
        (b"\n\n", "the header of .*t.csv is empty"),
        (
            b'file,caption\na.png,"open\nb.png,c\n',
            "t.csv, line 3: unexpected end of data in the .*line 2",
        ),
        (b"a.png,a\ndeep/b.png,b\n", "first line of .*t.csv has to name the columns.* of a.png"),
        ("file,caption\n".encode("utf-16"), "t.csv is UTF-16; save it as UTF-8"),
        (
            b"file,caption\ngone.png,a\n",
            "none of the first pictures in column 'file' is there, as .*gone",
        ),
        (b"file,caption\n", "t.csv: it has no rows"),
        (b"file,caption\na.png\n", "none of its first rows can be read, such as t.csv/0: has 1"),
    ],
)
def test_a_table_that_cannot_be_used_is_one_line(folder, raw, message):
    (folder / "t.csv").write_bytes(raw)
    with pytest.raises(UserError, match=message) as error:
        open_folder(str(folder))
    assert "\n" not in str(error.value)


def test_rows_that_cannot_be_used_are_broken_records(folder):
    (folder / "t.csv").write_bytes(b"file,caption\na.png,caf\xe9\nc.png\na.png,good\nc.png,a,b\n")
    source = open_folder(str(folder))
    assert source[2]["caption"] == "good"
    for i, reason in ((0, "t.csv/0: is not UTF-8"), (1, "t.csv/1: has 1 columns"), (3, "t.csv/3")):
        with pytest.raises(BrokenRecord, match=reason):
            source[i]


def test_wrong_settings_are_one_line(folder):
    with pytest.raises(UserError, match="image='file': there is no table"):
        open_folder(str(folder), image="file")
    (folder / "t.csv").write_text("file,caption\na.png,a\n")
    with pytest.raises(UserError, match="no column 'flie'; did you mean 'file'"):
        open_folder(str(folder), image="flie")
    with pytest.raises(UserError, match="cannot read .*other.csv: No such file"):
        open_folder(str(folder), table="other.csv")
    with pytest.raises(UserError, match="no such folder or table: .*nowhere"):
        open_folder(str(folder / "nowhere"))
    (folder / "empty").mkdir()
    with pytest.raises(UserError, match="no picture and no table in the folder"):
        open_folder(str(folder / "empty"))
