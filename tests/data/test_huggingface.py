"""Folders as `datasets.Dataset.save_to_disk` writes them (version 5.2), and names of the hub."""

import json
import pickle
import sys
import types

import pyarrow as pa
import pytest

from multimodal.config import HuggingFace
from multimodal.data.detect import detect
from multimodal.data.huggingface import open_huggingface
from multimodal.errors import UserError


def save(folder, numbers, shards=2, image=lambda i: b"%d" % i):
    """The folder that `save_to_disk` makes: Arrow streams, and their names in state.json."""
    folder.mkdir(parents=True)
    names = []
    for shard in range(shards):
        own = numbers[shard::shards]
        table = pa.table(
            {
                "image": pa.array([{"bytes": image(i), "path": None} for i in own]),
                "text": pa.array([[f"c{i}"] for i in own]),
                "label": pa.array(list(own), pa.int64()),
            }
        )
        names.append(f"data-{shard:05d}-of-{shards:05d}.arrow")
        with pa.ipc.new_stream(str(folder / names[-1]), table.schema) as stream:
            stream.write_table(table, max_chunksize=2)
    state = {"_data_files": [{"filename": name} for name in names], "_split": None}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text("{}")
    return folder


def test_a_saved_folder(tmp_path):
    save(tmp_path / "a", range(9))
    assert detect(f"{tmp_path}/a") == HuggingFace(f"{tmp_path}/a")
    source = open_huggingface("a", str(tmp_path), "train")
    source = pickle.loads(pickle.dumps(source))
    assert len(source) == 9
    assert source.shards == 2
    assert source[4] == {
        "key": "data-00000-of-00002/4",
        "image": b"8",
        "text": ["c8"],
        "label": 8,
    }
    assert [source[i]["label"] for i in (8, 5, 0)] == [7, 1, 0]
    only = open_huggingface(f"{tmp_path}/a", "", "train", fields=("label",))
    assert only[5] == {"key": "data-00001-of-00002/0", "label": 1}
    with pytest.raises(IndexError):
        source[9]


def test_splits(tmp_path):
    for split, count in (("train", 5), ("test", 2)):
        save(tmp_path / "a" / split, range(count))
    (tmp_path / "a/dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    assert len(open_huggingface(f"{tmp_path}/a", "", "test")) == 2
    with pytest.raises(UserError, match="split='dev': .*a has train, test"):
        open_huggingface(f"{tmp_path}/a", "", "dev")


def test_half_written_folders_are_one_line(tmp_path):
    folder = save(tmp_path / "a", range(9))
    shard = folder / "data-00001-of-00002.arrow"
    whole = shard.read_bytes()
    for data, why in (
        (whole[:-8], "its end is missing"),
        (whole[:60], "its end"),
        (b"", "its end"),
    ):
        shard.write_bytes(data)
        with pytest.raises(UserError, match=f"data-00001-of-00002.arrow is no whole .*{why}"):
            open_huggingface(str(folder), "", "train")
    shard.unlink()
    with pytest.raises(
        UserError, match="data-00001-of-00002.arrow is no whole Arrow file: .*No su"
    ):
        open_huggingface(str(folder), "", "train")
    for state, why in (("{", "cannot read"), ("{}", "names no data files")):
        (folder / "state.json").write_text(state)
        with pytest.raises(UserError, match=why):
            open_huggingface(str(folder), "", "train")
    (folder / "state.json").unlink()
    with pytest.raises(UserError, match="a is no whole folder of save_to_disk: no state.json"):
        open_huggingface(str(folder), "", "train")
    with pytest.raises(UserError, match="no such folder: .*nowhere"):
        open_huggingface(f"{tmp_path}/nowhere", "", "train")


def test_names_of_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match="no folder 'some/name'; to fetch it .* extra 'hf'"):
        open_huggingface("some/name", "", "train")
    file = save(tmp_path / "cache", range(4), 1) / "data-00000-of-00001.arrow"
    asked = []

    def load_dataset(name, subset, split):
        asked.append((name, subset, split))
        if name == "some/other":
            raise ValueError("not there\nmore")
        return types.SimpleNamespace(cache_files=[{"filename": str(file)}])

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    assert open_huggingface("some/name", "", "test", "small")[3]["label"] == 3
    assert asked == [("some/name", "small", "test")]
    with pytest.raises(UserError, match="cannot load 'some/other', split 'train': not there$"):
        open_huggingface("some/other", "", "train")
    with pytest.raises(UserError, match="whole splits only"):
        open_huggingface("some/name", "", "train[:1%]")
