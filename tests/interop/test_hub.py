"""The hub, played by a folder, so that no network is needed."""

from fnmatch import fnmatch

import huggingface_hub
import pytest

from multimodal.errors import UserError
from multimodal.interop.hub import fetch

THERE = ("config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The cache; files come into it as they are asked for, and `log` tells which."""
    log = []

    def snapshot_download(name, allow_patterns):
        for file in THERE:
            wanted = any(fnmatch(file, pattern) for pattern in allow_patterns)
            if wanted and not (tmp_path / file).exists():
                (tmp_path / file).touch()
                log.append(file)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return tmp_path, log


def test_settings_and_the_first_form_of_weights_come_once(hub):
    cache, log = hub
    (cache / "pytorch_model.bin").touch()  # of another time: not what is read first
    assert fetch("owner/name") == cache
    assert log == list(THERE)
    fetch("owner/name")
    assert log == list(THERE)


def test_a_download_that_was_cut_short_is_finished(hub):
    cache, log = hub
    (cache / THERE[1]).touch()
    fetch("owner/name")
    assert THERE[2] in log


def test_without_a_network_it_is_one_line(monkeypatch):
    def snapshot_download(name, allow_patterns):
        raise OSError("no route to the hub\nand much more")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    with pytest.raises(UserError) as error:
        fetch("owner/name")
    assert "owner/name" in str(error.value) and "no route to the hub; name" in str(error.value)
