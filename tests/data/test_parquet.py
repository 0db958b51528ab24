"""Parquet at random against what was written, row group by row group."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from multimodal.data import parquet
from multimodal.data.parquet import ParquetSource
from multimodal.data.record import BrokenRecord
from multimodal.errors import UserError
from tests.data.shards import encoded, picture
from tests.shared import shared_path


def _write(path, numbers, rows=3, **columns):
    columns = {
        "id": pa.array([100 + i for i in numbers], pa.int16()),
        "caption": pa.array([[f"c{i}a", f"c{i}b"] for i in numbers]),
        "class": pa.array(["odd" if i % 2 else "even" for i in numbers]).dictionary_encode(),
        "image": pa.array([{"bytes": b"%d" % i, "path": None} for i in numbers]),
        "facts": pa.array([{"size": i * 0.5} for i in numbers]),
        **columns,
    }
    pq.write_table(pa.table(columns), path, row_group_size=rows)


@pytest.fixture
def folder(tmp_path):
    _write(tmp_path / "a.parquet", range(7))
    _write(tmp_path / "b.parquet", range(7, 12))
    return tmp_path


def test_rows_of_files_in_any_order(folder):
    source = ParquetSource(str(folder))
    assert len(source) == 12
    assert source.shards == 2
    for i in (11, 0, 6, 7, 3, 2, 11):
        assert source[i] == {
            "key": f"a/{i}" if i < 7 else f"b/{i - 7}",
            "id": 100 + i,
            "caption": [f"c{i}a", f"c{i}b"],
            "class": ("even", "odd")[i % 2],
            "image": b"%d" % i,
            "facts": {"size": i * 0.5},
        }
    for index in (-1, 12):
        with pytest.raises(IndexError):
            source[index]


def test_only_the_columns_asked_for_are_read(folder):
    source = ParquetSource(str(folder), ("facts.size", "caption|text"))
    assert source[8] == {"key": "b/1", "caption": ["c8a", "c8b"], "facts": {"size": 4.0}}
    assert {tuple(t.column_names) for t in source._tables.values()} == {("caption", "facts")}


def test_a_column_called_key_names_the_record(tmp_path):
    _write(tmp_path / "a.parquet", range(2), key=["x", None])
    source = ParquetSource(str(tmp_path / "a.parquet"), ("id",))
    assert [source[0]["key"], source[1]["key"]] == ["x", "a/1"]


def test_memory_is_bounded(folder, monkeypatch):
    monkeypatch.setattr(parquet, "_KEPT", 1)
    source = ParquetSource(str(folder / "a.parquet"))
    seen = [source[i]["id"] for i in (0, 6, 3, 0, 6)]
    assert seen == [100, 106, 103, 100, 106]
    assert len(source._tables) == 1


def test_a_row_group_is_read_once_for_threads_and_survives_pickling(folder, monkeypatch):
    source = pickle.loads(pickle.dumps(ParquetSource(str(folder))))
    reads = []
    real = pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile, "read_row_group", lambda *a, **k: (reads.append(1), real(*a, **k))[1]
    )
    with ThreadPoolExecutor(4) as pool:
        ids = list(pool.map(lambda i: source[i]["id"], [*range(12), *range(12)]))
    assert ids == [*range(100, 112), *range(100, 112)]
    assert len(reads) == 5


def test_pictures_left_outside_are_read_from_the_folder(tmp_path):
    data = encoded(picture(0))
    (tmp_path / "there.png").write_bytes(data)
    places = [{"bytes": None, "path": "there.png"}, {"bytes": None, "path": "gone.png"}]
    _write(tmp_path / "a.parquet", range(2), image=pa.array(places))
    source = ParquetSource(str(tmp_path / "a.parquet"))
    assert source[0]["image"] == data
    with pytest.raises(BrokenRecord, match="a/1: image: cannot read .*gone.png: No such file"):
        source[1]


def test_a_file_cut_short_and_one_of_another_kind(folder):
    whole = (folder / "a.parquet").read_bytes()
    for data in (whole[:-20], b"", b"key,caption\n1,2\n"):
        (folder / "a.parquet").write_bytes(data)
        with pytest.raises(UserError, match="a.parquet is no whole Parquet file: "):
            ParquetSource(str(folder))
    with pytest.raises(UserError, match="no file \\*.parquet in the folder"):
        (folder / "empty").mkdir()
        ParquetSource(str(folder / "empty"))


def test_a_damaged_row_group_is_broken_and_the_others_are_used(tmp_path):
    noise = [np.random.default_rng(i).bytes(2000) for i in range(6)]
    _write(tmp_path / "a.parquet", range(6), noise=noise)
    path = tmp_path / "a.parquet"
    column = pq.read_metadata(path).row_group(1).column(6)
    assert column.path_in_schema == "noise"
    data = bytearray(path.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    data[start : start + 60] = bytes(60)
    path.write_bytes(data)
    source = ParquetSource(str(path))
    assert [source[i]["noise"] for i in range(3)] == noise[:3]
    for i in range(3, 6):
        with pytest.raises(BrokenRecord, match=f"a/{i}: row group 1 cannot be read: "):
            source[i]


def test_cifar():
    source = ParquetSource(str(shared_path("data/cifar10-train.parquet")), ("jpg", "class"))
    assert len(source) == 50000
    assert source[49999].keys() == {"key", "jpg", "class"}
    assert source[0]["jpg"].startswith(b"\xff\xd8")
    assert source[0]["key"] == "truck_2539"
    assert source[0]["class"] == "truck"


def test_row_groups_unpacked_over_and_over_are_told_once(tmp_path, monkeypatch, caplog):
    _write(tmp_path / "a.parquet", range(200), rows=100)
    monkeypatch.setattr(parquet, "_KEPT", 1)
    for step, told in ((1, 0), (100, 1)):
        source = ParquetSource(str(tmp_path / "a.parquet"), ("id",))
        for i in range(200):
            source[i * step % 199]
        assert len(caplog.records) == told
    assert "a row group of 100 rows is unpacked for 1.0 records at a time" in caplog.text
