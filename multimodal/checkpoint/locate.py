"""From a path that a user gives to the checkpoint that is meant."""

from pathlib import Path

from multimodal.checkpoint.bundle import Checkpoints
from multimodal.errors import UserError


def locate(path: Path, step: int | None = None) -> tuple[Checkpoints, int]:
    """The checkpoints of a run folder and which of them is meant: `step`, or the newest.

    `path` may also be the folder of one checkpoint, such as `RUN/checkpoints/00001000` or a copy
    of it. Raises UserError when there is no such folder, no whole checkpoint, or not that of
    `step`.
    """
    path = Path(path).expanduser().absolute()
    if not path.is_dir():
        raise UserError(f"no run folder {path}")
    if path.name.isdecimal() and not (path / "checkpoints").is_dir():
        folder, known = Checkpoints(path.parent), [int(path.name)]
    else:
        folder = Checkpoints(path / "checkpoints")
        known = folder.steps()
    if not known or step not in (None, *known):
        wanted = "no whole checkpoint" if not known else f"no checkpoint of step {step}"
        raise UserError(f"{path} holds {wanted}; steps: {', '.join(map(str, known)) or 'none'}")
    return folder, known[-1] if step is None else step
