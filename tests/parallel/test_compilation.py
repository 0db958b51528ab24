"""Where compiled programs are kept, and what is told of compiling; `tests/test_train.py` runs the
trainer twice."""

import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from multimodal.errors import UserError
from multimodal.parallel.compilation import compiling, keep_compiled

SETTINGS = ("jax_compilation_cache_dir", "jax_enable_compilation_cache")


@pytest.fixture(autouse=True)
def settings(monkeypatch, tmp_path):
    """jax's settings as in a new process; what a test makes of them ends with it."""
    before = {name: getattr(jax.config, name) for name in SETTINGS}
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_by_default_in_the_users_cache_for_this_kind_of_cpu_and_for_nobody_else(tmp_path):
    keep_compiled()
    folder = Path(jax.config.jax_compilation_cache_dir)
    assert folder.parent == tmp_path / "home/multimodal/xla" and folder.is_dir()
    assert folder.stat().st_mode & 0o077 == 0, "whoever writes there runs code here"


def test_another_kind_of_cpu_has_another_folder(monkeypatch):
    told, folders = Path.read_text, []
    for flags in ("flags : avx", "flags : avx avx512f", "flags : avx"):
        monkeypatch.setattr(Path, "read_text", lambda self, flags=flags: f"{flags}\n\nflags : x")
        keep_compiled()
        folders.append(jax.config.jax_compilation_cache_dir)
        jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.setattr(Path, "read_text", told)
    assert folders[0] != folders[1] and folders[0] == folders[2]


def test_the_users_own_folder_comes_first(tmp_path):
    jax.config.update("jax_compilation_cache_dir", "/from/the/environment")
    keep_compiled()
    assert jax.config.jax_compilation_cache_dir == "/from/the/environment"
    keep_compiled(str(tmp_path / "flag"))
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "flag")
    keep_compiled("gs://bucket/compiled")  # not a folder to make here
    assert jax.config.jax_compilation_cache_dir == "gs://bucket/compiled"


def test_off():
    jax.config.update("jax_enable_compilation_cache", True)
    keep_compiled("off")
    assert not jax.config.jax_enable_compilation_cache


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--compilation_cache=.*file/x: cannot be written"):
        keep_compiled(str(tmp_path / "file/x"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    keep_compiled()  # nobody asked for it: a run does without
    assert jax.config.jax_compilation_cache_dir is None


def test_what_this_thread_compiles_is_told_once():
    step = jax.jit(lambda x: x * 2 + 1)
    x = jnp.zeros(3)
    with compiling() as first:
        step(x)
    with compiling() as second:
        step(x)
    assert first["compile_seconds"] > 0 and first["compile_cached"] == 0
    assert second == {}


def test_what_another_thread_compiles_is_not_told():
    other = threading.Thread(target=lambda: jax.jit(lambda x: x * 3 - 1)(2.0))
    with compiling() as figures:
        other.start()
        other.join()
    assert figures == {}
