"""Where sources look for their files."""

import pytest

from multimodal import config, recipe
from multimodal.data import sources
from multimodal.data.pipeline import batches
from multimodal.data.sources import open_data, open_source
from multimodal.data.tar import TarSource
from multimodal.errors import UserError
from multimodal.preprocessing import Preprocessing
from tests.data.shards import encoded, members, picture, write_tar
from tests.toy import CONFIGS


@pytest.fixture
def shards(tmp_path):
    for name, numbers in {"a.tar": range(3), "b.tar": range(3, 5)}.items():
        write_tar(tmp_path / name, members(numbers))
    return tmp_path


@pytest.mark.parametrize("path", ["a.tar::b.tar", "{folder}/a.tar::b.tar", "*.tar"])
def test_relative_paths_are_below_the_data_folder_each_of_them(shards, path):
    path = path.format(folder=shards)
    assert len(open_source(config.Tar(path), str(shards))) == 5


def test_the_recipe_for_pairs_counts_from_the_current_folder(shards, monkeypatch):
    monkeypatch.chdir(shards)
    config = recipe.finish(recipe.load(str(CONFIGS / "pairs.py"), "data=a.tar::b.tar"))
    for data in (config.tasks["pairs"].data, config.evaluators["held_out"].data):
        assert len(open_source(data.source, "elsewhere")) == 5


def test_both_sides_of_a_split_cost_one_scan_of_what_it_names(shards, monkeypatch):
    reads = []
    real = TarSource._read
    monkeypatch.setattr(TarSource, "_read", lambda self, *a: (reads.append(a), real(self, *a))[1])
    monkeypatch.setattr(sources, "_check_fields", lambda *a: None)
    kept = {}
    for _ in range(3):
        for keep in ("train", "test"):
            holdout = config.Holdout("txt", 0.5, keep)
            data = config.Data(config.Tar("*.tar"), {"image": "png"}, holdout=holdout)
            kept[keep] = open_data(data, str(shards)).indices.tolist()
    assert len(reads) == 5
    assert sorted(kept["train"] + kept["test"]) == list(range(5))
    data = config.Data(config.Tar("*.tar"), {"image": "png"}, holdout=config.Holdout("key", 0.5))
    open_data(data, str(shards))
    assert len(reads) == 5


def test_fewer_shards_than_processes_are_refused(shards):
    data = config.Data(config.Tar("*.tar"), {"text": "txt"})
    batches(data, Preprocessing(), batch_size=6, seed=0, process_count=2, data_dir=str(shards))
    with pytest.raises(UserError, match="shards=2 is below processes=3; write the data to at leas"):
        batches(data, Preprocessing(), batch_size=6, seed=0, process_count=3, data_dir=str(shards))


def test_another_seed_is_another_split_of_the_same_groups():
    def held_out(seed):
        return {g for g in range(500) if sources.in_test(f"group {g}", 0.2, seed)}

    assert held_out(0) != held_out(1) != held_out(2)
    for seed in range(3):
        assert 70 < len(held_out(seed)) < 130
        assert held_out(seed) == held_out(seed)
    assert 5 < len(held_out(0) & held_out(1)) < 40  # a fifth of a fifth: sides are independent


def test_the_recipe_for_pairs_asks_for_what_it_cannot_guess(tmp_path):
    for name in ("cat/1.png", "dog/2.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(encoded(picture(0)))

    def load(arg):
        return recipe.finish(recipe.load(str(CONFIGS / "pairs.py"), f"data={tmp_path}{arg}"))

    with pytest.raises(
        UserError, match="field of text among .*: class, label, image; say text=FIELD"
    ):
        load("")
    task = load(",text=class,template=a photo of a {}").tasks["pairs"]
    assert task.data.source == config.Folder(str(tmp_path))
    assert task.data.fields == {"image": "image", "text": "class"}
    assert task.data.templates == ("a photo of a {}",)
    with pytest.raises(UserError, match="no such file or folder: .*nowhere"):
        load("/nowhere")


def test_the_recipe_for_pairs_takes_the_column_of_pictures(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(picture(0)))
    (tmp_path / "t.csv").write_text("photo,words\na.png,x\n")

    def load(arg):
        return recipe.finish(recipe.load(str(CONFIGS / "pairs.py"), f"data={tmp_path}{arg}"))

    with pytest.raises(UserError, match="field of image among .*: photo, words; say image=FIELD"):
        load(",text=words")
    task = load(",image=photo,text=words").tasks["pairs"]
    assert task.data.source == config.Folder(str(tmp_path), image="photo")
    assert task.data.fields == {"image": "image", "text": "words"}
    assert load(",image=image,text=words").tasks["pairs"].data.source.image == ""
    with pytest.raises(UserError, match="t.csv has no column 'foto'; did you mean 'photo'"):
        sources.open_data(load(",image=foto,text=words").tasks["pairs"].data)
