import pickle

import pytest
from array_record.python.array_record_module import ArrayRecordWriter

from multimodal.data.array_record import ArrayRecordSource, write
from multimodal.data.record import BrokenRecord
from multimodal.errors import UserError


def _records(numbers):
    return [
        {
            "key": f"k{i}",
            "image": bytes([i]) * i,
            "captions": [f"a {i}", "é"],
            "n": i,
            "x": {"y": 0.5},
        }
        for i in numbers
    ]


def test_what_was_written_is_read(tmp_path):
    assert write(str(tmp_path / "a[0]-0.ar"), _records(range(5))) == 5
    write(str(tmp_path / "a[0]-1.ar"), _records(range(5, 7)))
    source = ArrayRecordSource(f"{tmp_path}/a[0]-{{0..1}}.ar")
    assert [source[i] for i in range(len(source))] == _records(range(7))
    with pytest.raises(IndexError):
        source[7]
    assert pickle.loads(pickle.dumps(source))[6] == _records([6])[0]
    partial = ArrayRecordSource(f"{tmp_path}/a[0]-0.ar", ["captions", "x.y"])
    assert set(partial[0]) == {"key", "captions", "x"}


def test_a_value_of_another_kind_leaves_no_file(tmp_path):
    with pytest.raises(UserError, match=r"record 1 \(b\): can not serialize 'set' object"):
        write(str(tmp_path / "a.ar"), [{"key": "a"}, {"key": "b", "x": {1}}])
    assert list(tmp_path.iterdir()) == []


def test_wrong_files_end_in_one_line(tmp_path):
    path = tmp_path / "a.ar"
    write(str(path), _records(range(200)))
    whole = path.read_bytes()
    for broken in (whole[: len(whole) // 2], b"", b"not an ArrayRecord file" * 9):
        path.write_bytes(broken)
        with pytest.raises(UserError, match=r"a\.ar is no whole ArrayRecord file") as caught:
            ArrayRecordSource(str(path))
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="no such file"):
        ArrayRecordSource(str(tmp_path / "none.ar"))


def test_foreign_records(tmp_path):
    path = str(tmp_path / "a.ar")
    writer = ArrayRecordWriter(path, "group_size:1")
    writer.write(b"\x0a\x05hello")
    writer.close()
    with pytest.raises(UserError, match="not msgpack dictionaries"):
        ArrayRecordSource(path)
    write(path, [{"key": "good"}, [1]])
    source = ArrayRecordSource(path)
    assert source[0] == {"key": "good"}
    with pytest.raises(BrokenRecord):
        source[1]
