"""Where sources look for their files."""

import pytest

from multimodal import config, recipe
from multimodal.data.sources import open_source
from tests.data.shards import members, write_tar
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
    config = recipe.finish(recipe.load(str(CONFIGS / "pairs.py"), "tar=a.tar::b.tar"))
    for data in (config.tasks["pairs"].data, config.evaluators["held_out"].data):
        assert len(open_source(data.source, "elsewhere")) == 5
