"""What was once worked out of a file, kept beside it until the file changes."""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

Arrays = dict[str, np.ndarray]
_VERSION = 1


def cached(path: str, name: str, build: Callable[[str], Arrays]) -> Arrays:
    """`build(path)`, from its cache while size and time of change agree, else worked out anew."""
    stat = os.stat(path)
    stamp = np.array([_VERSION, stat.st_size, stat.st_mtime_ns])
    for place in _places(path, name):
        try:
            with np.load(place, allow_pickle=False) as saved:
                if np.array_equal(saved["stamp"], stamp):
                    return {name: saved[name] for name in saved.files if name != "stamp"}
        except (OSError, ValueError, KeyError, EOFError):
            continue
    arrays = build(path)
    for place in _places(path, name):
        if _save(place, arrays | {"stamp": stamp}):
            break
    return arrays


def _places(path: str, name: str) -> list[Path]:
    """Beside the file where one may write; then the user's cache; then the temporary folder."""
    path = os.path.abspath(path)
    folder = os.path.dirname(path)
    digest = hashlib.blake2b(path.encode(), digest_size=12).hexdigest() + f".{name}.npz"
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    places = [home / "multimodal" / digest]
    places.append(Path(tempfile.gettempdir()) / f"multimodal-{os.getuid()}" / digest)
    # Root may write into folders that are marked read-only; respect the mark.
    if os.stat(folder).st_mode & 0o222 and os.access(folder, os.W_OK):
        places.insert(0, Path(f"{path}.{name}.npz"))
    return places


def _save(cache: Path, arrays: Arrays) -> bool:
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=cache.parent, delete=False) as file:
            np.savez(file, **arrays)
        os.replace(file.name, cache)  # other processes see the whole or none
    except OSError:
        return False
    return True
