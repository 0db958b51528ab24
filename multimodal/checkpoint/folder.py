"""The folder that holds a run's checkpoints: how they are named, set aside and removed.

`00001000` is a checkpoint, `00001000.torn` one that is set aside; Orbax writes in
`00001000.orbax-checkpoint-tmp` and renames; what is on its way out is `00001000.deleting`, so that
a removal cut short is never taken for a torn checkpoint. Only one process may change the folder.
"""

import logging
import shutil
import time
from pathlib import Path

_log = logging.getLogger(__name__)
_UNFINISHED = ".orbax-checkpoint-tmp"
_DELETING = ".deleting"
_TORN = ".torn"
_TROUBLE = {
    "No space left": "the disk is full",
    "Disk quota": "the disk quota is used up",
    "Read-only file": "it is read-only",
    "Permission denied": "no permission to write there",
    "File too large": "a file would be larger than the system allows",
    "Input/output error": "the disk reports an input/output error",
    "No such file": "the folder has gone",
}


def path_of(folder: Path, step: int) -> Path:
    return folder / f"{step:08d}"


def steps_in(folder: Path) -> list[int]:
    """Steps with a finished folder, whole or not, oldest first."""
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())


def set_aside(path: Path, reason: str) -> None:
    """Renames a checkpoint that must not be read, and says so."""
    step = path.name.split(".")[0]
    names = [f"{step}{_TORN}", *(f"{step}{_TORN}.{i}" for i in range(1, 1000))]
    aside = next(path.with_name(n) for n in names if not path.with_name(n).exists())
    try:
        path.rename(aside)
        _log.warning("checkpoint %s %s; set aside as %s", path, reason, aside.name)
    except OSError as error:
        pass_over(path, f"{reason} and cannot be renamed ({error.strerror})")


def pass_over(path: Path, reason: str) -> None:
    """Says that a checkpoint is not read."""
    _log.warning("checkpoint %s %s; passed over", path, reason)


def clear_up(folder: Path, keep: int) -> None:
    """After a killed run: sets half a save aside, completes a removal, keeps `keep` torn ones."""
    for path in sorted(folder.iterdir()):
        if path.suffix == _DELETING:
            shutil.rmtree(path, ignore_errors=True)
        elif _UNFINISHED in path.name:
            set_aside(path, "is torn: the run was stopped in the middle of saving it")
    torn = sorted(folder.glob(f"*{_TORN}*"), key=lambda path: path.stat().st_mtime)
    for path in torn[:-keep]:
        shutil.rmtree(path, ignore_errors=True)


def remove_old(folder: Path, keep: int, keep_every: int | None) -> None:
    """Removes all but the newest `keep` checkpoints and every `keep_every`-th step."""
    for step in steps_in(folder)[:-keep]:
        if not (keep_every and step % keep_every == 0):
            doomed = path_of(folder, step).with_suffix(_DELETING)
            path_of(folder, step).rename(doomed)
            shutil.rmtree(doomed)


def remove_halves(folder: Path) -> None:
    """Removes what failed saves have written, to give its room back; none may be in progress.

    Orbax reports the first write that fails while others of the same save are still under way, and
    these make their folders anew: what comes back within half a second is removed too.
    """
    quiet = 0
    for _ in range(100):
        halves = list(folder.glob(f"*{_UNFINISHED}*"))
        for half in halves:
            shutil.rmtree(half, ignore_errors=True)
        quiet = 0 if halves else quiet + 1
        if quiet == 10:
            return
        time.sleep(0.05)


def trouble(error: Exception) -> str | None:
    """What the storage refuses, in plain words; None when `error` is about something else."""
    return next((words for sign, words in _TROUBLE.items() if sign in str(error)), None)
