"""Shared files: beside the checkout or where the environment says, never silently absent."""

import pytest

from tests.shared import shared_path


@pytest.fixture
def goldens(tmp_path, monkeypatch):
    (tmp_path / "vit").mkdir()
    monkeypatch.setenv("MULTIMODAL_GOLDENS", str(tmp_path))
    return tmp_path


def test_environment_replaces_a_folder(goldens):
    assert shared_path("goldens") == goldens
    assert shared_path("goldens/vit") == goldens / "vit"


def test_absent_file_skips(goldens, monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="MULTIMODAL_GOLDENS"):
        shared_path("goldens/none")


def test_absent_file_fails_in_ci(goldens, monkeypatch):
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="none"):
        shared_path("goldens/none")


def test_without_the_environment_it_lies_beside_the_checkout(monkeypatch):
    monkeypatch.delenv("MULTIMODAL_DATA", raising=False)
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="shared/data/no-such-file"):
        shared_path("data/no-such-file")
