"""Compiled programs kept on disk for the next run, and how long compiling takes."""

import contextlib
import logging
import os
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import jax

from multimodal.errors import UserError

log = logging.getLogger("multimodal")

OFF = "off"
_SECONDS = "/jax/core/compile/backend_compile_duration"  # of a program that is read back, too
_READ = "/jax/compilation_cache/cache_hits"


def keep_compiled(folder: str | None = None) -> None:
    """Has jax keep compiled programs in `folder` and read them back from there; "off" keeps none.

    None stands for JAX_COMPILATION_CACHE_DIR, or `multimodal/xla` in the user's cache folder; that
    one differs by the CPU's abilities where programs run on the CPU. To be called once the job is
    joined. Of several processes the first one writes; hosts that share no disk keep their own.

    Raises UserError for a `folder` that cannot be written.
    """
    if folder is None and jax.config.jax_compilation_cache_dir:
        return
    if folder == OFF:
        jax.config.update("jax_enable_compilation_cache", False)
        return
    path = folder or str(_default())
    if "://" not in path:  # else a bucket, which jax writes through etils
        try:
            Path(path).mkdir(mode=0o700, parents=True, exist_ok=True)
            writable = os.access(path, os.W_OK)
        except OSError:
            writable = False
        if not writable and folder:
            raise UserError(f"--compilation_cache={folder}: cannot be written; name another")
        if not writable:
            log.info("compiled programs are not kept: %s cannot be written", path)
            return
    jax.config.update("jax_compilation_cache_dir", path)


def _default() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(home).expanduser() / "multimodal" / "xla"
    if jax.default_backend() != "cpu":
        return folder
    # Homes are shared by machines that do not share an instruction set.
    try:
        told = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
    except OSError:
        told = []
    abilities = [line for line in told if line.startswith(("flags", "Features", "model name"))]
    return folder / f"{os.uname().machine}-{zlib.crc32(chr(10).join(abilities).encode()):08x}"


@contextlib.contextmanager
def compiling() -> Iterator[dict[str, float]]:
    """Yields a dict that is filled at the end: `compile_seconds` of what this thread compiled or
    read from disk, and `compile_cached`, 1 where all of it was read; {} where it was nothing."""
    thread, seconds, read, figures = threading.get_ident(), [], [], {}

    def took(event: str, duration: float, **_: object) -> None:
        if event == _SECONDS and threading.get_ident() == thread:
            seconds.append(duration)

    def happened(event: str, **_: object) -> None:
        if event == _READ and threading.get_ident() == thread:
            read.append(event)

    jax.monitoring.register_event_duration_secs_listener(took)
    jax.monitoring.register_event_listener(happened)
    try:
        yield figures
    finally:
        jax.monitoring.unregister_event_duration_listener(took)
        jax.monitoring.unregister_event_listener(happened)
        if seconds:
            cached = float(len(read) == len(seconds))
            figures |= {"compile_seconds": sum(seconds), "compile_cached": cached}
