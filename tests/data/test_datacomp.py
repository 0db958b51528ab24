"""img2dataset shards and a DataComp subset of them."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from multimodal import config
from multimodal.data.sources import open_source
from multimodal.errors import UserError
from tests.data.shards import write_tar


def _uid(i):
    return f"{i:016x}{i * i:016x}"


def _write(folder, name, numbers, **uids):
    members = []
    for i in numbers:
        facts = {"uid": uids.get(f"u{i}", _uid(i)), "status": "success"}
        members += [(f"{i:09d}.jpg", b"jpg"), (f"{i:09d}.txt", f"caption {i}".encode())]
        members += [(f"{i:09d}.json", json.dumps(facts).encode())]
    write_tar(folder / f"{name}.tar", members)


def _subset(path, numbers):
    np.save(path, np.array([(i, i * i) for i in numbers], "u8,u8"))
    return str(path)


@pytest.fixture
def folder(tmp_path):
    for shard in range(3):
        _write(tmp_path, f"{shard:08d}", range(4 * shard, 4 * shard + 4))
    return tmp_path


def _kept(folder, subset):
    source = open_source(config.Tar(str(folder), subset=subset), "", ("txt",))
    return [source[i]["txt"] for i in range(len(source))]


def test_the_chosen_records_in_the_order_of_the_shards(folder):
    subset = _subset(folder / "subset.npy", [9, 0, 7, 6, 256, 500])
    for _ in range(2):  # the second time from the cache
        assert _kept(folder, subset) == ["caption 0", "caption 6", "caption 7", "caption 9"]
    assert open_source(config.Tar(str(folder), subset=subset)).shards == 3
    assert len(open_source(config.Tar(str(folder)))) == 12


def test_uids_of_the_parquet_file_beside_a_shard(folder):
    """img2dataset lists failed downloads there too; they are not in the tar."""
    keys = [f"{i:09d}" for i in (3, 2, 99, 1, 0)]
    table = {"key": keys, "uid": [_uid(i) for i in (103, 102, 199, 101, 100)], "status": ["s"] * 5}
    pq.write_table(pa.table(table), folder / "00000000.parquet")
    subset = _subset(folder / "subset.npy", [103, 101, 1, 4])
    assert _kept(folder, subset) == ["caption 1", "caption 3", "caption 4"]


def test_a_record_without_a_uid_is_not_chosen(folder):
    _write(folder, "00000000", range(4), u1=None, u2="no hex")
    assert _kept(folder, _subset(folder / "s.npy", range(6))) == [
        f"caption {i}" for i in (0, 3, 4, 5)
    ]


def test_wrong_subsets_are_one_line(folder):
    for value, message in (
        (np.arange(3), "holds int64 .*, not a list of u8,u8"),
        (np.array([(99, 9)], "u8,u8"), "none of the 12 records is among the 1 uids"),
    ):
        np.save(folder / "s.npy", value)
        with pytest.raises(UserError, match=message):
            _kept(folder, str(folder / "s.npy"))
    (folder / "s.npy").write_bytes(b"uid\n")
    for name in ("s.npy", "gone.npy"):
        with pytest.raises(UserError, match=f"data.source.subset: cannot read .*{name}"):
            _kept(folder, str(folder / name))
