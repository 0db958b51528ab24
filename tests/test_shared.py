"""Shared files: beside the checkout or where the environment says, never silently absent."""

from pathlib import Path

import pytest

from tests.shared import shared_path

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def goldens(tmp_path, monkeypatch):
    (tmp_path / "vit").mkdir()
    monkeypatch.setenv("MULTIMODAL_GOLDENS", str(tmp_path))
    return tmp_path


def test_environment_replaces_a_folder(goldens):
    assert shared_path("goldens") == goldens
    assert shared_path("goldens/vit") == goldens / "vit"


def _outcome(name):
    # Both are caught: a skip that escaped would be reported as a skipped test.
    with pytest.raises((pytest.skip.Exception, pytest.fail.Exception)) as caught:
        shared_path(name)
    return caught.type, str(caught.value)


def test_absent_file_skips(goldens, monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    outcome, message = _outcome("goldens/none")
    assert outcome is pytest.skip.Exception
    assert str(goldens / "none") in message and "MULTIMODAL_GOLDENS" in message


def test_absent_file_fails_in_ci(goldens, monkeypatch):
    monkeypatch.setenv("CI", "true")
    assert _outcome("goldens/none")[0] is pytest.fail.Exception


def test_without_the_environment_it_lies_beside_the_checkout(monkeypatch):
    monkeypatch.delenv("MULTIMODAL_DATA", raising=False)
    assert str(ROOT.parent / "shared" / "data" / "no-such-file") in _outcome("data/no-such-file")[1]
