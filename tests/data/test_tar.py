import io
import json
import logging
import os
import pickle
import tarfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from multimodal.data import tar
from multimodal.data.record import BrokenRecord
from multimodal.errors import UserError
from tests.data.shards import members, write_tar
from tests.shared import shared_path


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def _by_tarfile(path):
    """What tarfile itself finds, grouped by the name up to the first dot."""
    records = {}
    with tarfile.open(path) as file:
        for member in file:
            if member.isfile():
                key, _, extension = member.name.partition(".")
                records.setdefault(key, {})[extension] = file.extractfile(member).read()
    return records


def test_every_record_at_random_as_tarfile_reads_them(tmp_path):
    write_tar(tmp_path / "s-008.tar", members(range(0, 7)))
    write_tar(tmp_path / "s-009.tar", members(range(7, 9)), tarfile.PAX_FORMAT)
    write_tar(tmp_path / "s-010.tar", members(range(9, 20)))
    wanted = {}
    for i in ("008", "009", "010"):
        wanted |= _by_tarfile(tmp_path / f"s-{i}.tar")
    for pattern in ("s-{008..010}.tar", "s-*.tar", "s-008.tar::s-009.tar::s-010.tar"):
        paths = "::".join(f"{tmp_path}/{p}" for p in pattern.split("::"))
        source = tar.TarSource(paths)
        assert [source[i]["key"] for i in range(len(source))] == list(wanted)
        for i in (19, 0, 7, 6, 8):
            record, raw = source[i], wanted[f"{i:04d}"]
            assert record["png"] == raw["png"]
            assert record["txt"] == f"caption {i}"
            assert record["cls"] == i % 10
            assert record["json"] == json.loads(raw["json"])
    with pytest.raises(IndexError):
        source[20]


def test_only_the_fields_asked_for_are_read(tmp_path):
    path = write_tar(tmp_path / "a.tar", members(range(2)))
    source = tar.TarSource(str(path), ["jpg|png", "json.captions"])
    assert set(source[0]) == {"key", "png", "json"}


def test_names_are_keys_and_nothing_is_extracted(tmp_path):
    long = "x" * 180
    names = ["../../evil.txt", "/etc/passwd.txt", "a/b.seg.png", "a/b.txt", f"{long}.txt", "é☃.txt"]
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        path = write_tar(tmp_path / f"{form}.tar", [(n, b"1") for n in names], form)
        source = tar.TarSource(str(path))
        keys = [source[i]["key"] for i in range(len(source))]
        assert keys == ["../../evil", "/etc/passwd", "a/b", long, "é☃"]
        assert set(source[2]) == {"key", "seg.png", "txt"}
    assert sorted(p.name for p in tmp_path.iterdir() if p.suffix == ".txt") == []


def test_folders_links_and_hidden_members_are_no_records(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as file:
        for name, kind in (("dir", tarfile.DIRTYPE), ("a.txt", tarfile.SYMTYPE)):
            info = tarfile.TarInfo(name)
            info.type = kind
            info.linkname = "/etc/passwd"
            file.addfile(info)
        for name in (".hidden.txt", "plain", "b.txt"):
            file.addfile(tarfile.TarInfo(name), io.BytesIO())
    source = tar.TarSource(str(path))
    assert [source[i]["key"] for i in range(len(source))] == ["b"]


def test_index_is_cached_and_rebuilt_when_the_tar_changes(tmp_path, monkeypatch):
    built = []
    build = tar.build_index
    monkeypatch.setattr(tar, "build_index", lambda path: built.append(path) or build(path))
    path = write_tar(tmp_path / "a.tar", members(range(3)))
    assert len(tar.TarSource(str(path))) == 3
    assert (tmp_path / "a.tar.index.npz").exists()
    again = tar.TarSource(str(path))
    assert len(built) == 1
    assert again[2]["txt"] == "caption 2"
    write_tar(path, members(range(5)))
    assert tar.TarSource(str(path))[4]["txt"] == "caption 4"
    assert len(built) == 2
    (tmp_path / "a.tar.index.npz").write_bytes(b"damaged")
    assert len(tar.TarSource(str(path))) == 5
    assert len(built) == 3


def test_same_size_but_newer_tar_is_read_anew(tmp_path):
    path = write_tar(tmp_path / "a.tar", [("a.txt", b"1"), ("b.txt", b"2")])
    tar.TarSource(str(path))
    write_tar(path, [("c.txt", b"1"), ("d.txt", b"2")])
    os.utime(path, ns=(1, 1))
    assert tar.TarSource(str(path))[0]["key"] == "c"


def test_read_only_folder_is_left_alone(tmp_path):
    folder = tmp_path / "read-only"
    folder.mkdir()
    path = write_tar(folder / "a.tar", members(range(2)))
    folder.chmod(0o555)
    try:
        assert len(tar.TarSource(str(path))) == 2
        assert os.listdir(folder) == ["a.tar"]
        assert len(list((tmp_path / "cache" / "multimodal").iterdir())) == 1
    finally:
        folder.chmod(0o755)


def test_threads_and_other_processes_read_the_same(tmp_path, monkeypatch):
    for shard in range(6):
        write_tar(tmp_path / f"{shard}.tar", members(range(5 * shard, 5 * shard + 5)))
    monkeypatch.setattr(tar, "_OPEN_FILES", 3)
    source = tar.TarSource(f"{tmp_path}/{{0..5}}.tar", ["txt"])
    indices = [i * 7 % 30 for i in range(600)]
    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(lambda i: source[i]["txt"], indices))
    assert texts == [f"caption {i}" for i in indices]
    assert len(source._files) == 3
    copy = pickle.loads(pickle.dumps(source))
    assert copy._files == {}
    assert copy[17]["txt"] == "caption 17"


def test_truncated_tar_serves_what_is_whole(tmp_path, caplog):
    path = write_tar(tmp_path / "a.tar", members(range(4)))
    with tarfile.open(path) as file:
        torn = file.getmember("0003.png")
    whole = path.read_bytes()
    path.write_bytes(whole[: torn.offset_data + torn.size // 2])
    with caplog.at_level(logging.WARNING):
        source = tar.TarSource(str(path))
    assert "cut short" in caplog.text
    assert len(source) == 4
    assert source[2]["txt"] == "caption 2"
    with pytest.raises(BrokenRecord, match="0003: png is cut off: a.tar ends early"):
        source[3]
    path.write_bytes(whole[: torn.offset + 100])  # within a header: that record never began
    assert len(tar.TarSource(str(path))) == 3


def test_unreadable_members_are_broken_records(tmp_path):
    bad = [("a.json", b"{"), ("b.cls", b"cat"), ("c.txt", b"\xff\xfe"), ("d.txt", b"fine")]
    source = tar.TarSource(str(write_tar(tmp_path / "a.tar", bad)))
    for i in range(3):
        with pytest.raises(BrokenRecord, match="cannot be read"):
            source[i]
    assert source[3]["txt"] == "fine"


def test_wrong_files_end_in_one_line(tmp_path):
    (tmp_path / "zip.tar").write_bytes(b"PK" * 1000)
    (tmp_path / "empty.tar").write_bytes(b"")
    with tarfile.open(tmp_path / "gz.tar", "w:gz") as file:
        file.addfile(tarfile.TarInfo("a.txt"), io.BytesIO())
    cases = {
        "none.tar": "no such file",
        "s-{0..2}.tar": r"no such file: .*s-0\.tar",
        "zip.tar": "not a readable tar",
        "empty.tar": "not a readable tar",
        "gz.tar": "compressed; unpack it first",
    }
    for name, message in cases.items():
        with pytest.raises(UserError, match=message) as caught:
            tar.TarSource(f"{tmp_path}/{name}")
        assert "\n" not in str(caught.value)


def test_pictograms():
    path = shared_path("data/emoji-train.tar")
    source = tar.TarSource(str(path))
    wanted = _by_tarfile(path)
    assert len(source) == len(wanted) == 2648
    for i in (0, 1234, 2647):
        record = source[i]
        assert record["png"] == wanted[record["key"]]["png"]
        assert record["json"]["name"] == record["txt"]
