"""Other people's checkpoints in and out:
python -m multimodal.convert import SOURCE --workdir=DIR [--tokenizer=FILE]
python -m multimodal.convert export --workdir=DIR --to=hf|open_clip --out=FOLDER

See docs/interop.md.
"""

import sys

from multimodal.command import join, run, workdir_from_flags
from multimodal.errors import UserError
from multimodal.schema import nearest


def import_(source: str) -> None:
    """Makes a run folder, at step 0, of a folder, a file or a model of the hub."""
    join()
    raise UserError(f"convert import: nothing reads {source} into {workdir_from_flags()} yet")


def export() -> None:
    """Makes a folder that other libraries load, of a run's newest checkpoint."""
    raise UserError("convert export: not there yet")


_COMMANDS = {"import": import_, "export": export}


def main(command: str, arguments: list[str]) -> None:
    if command not in _COMMANDS:
        raise UserError(f"convert {command or '?'}: no such command{nearest(command, _COMMANDS)}")
    wanted = 1 if command == "import" else 0
    if len(arguments) != wanted:
        usage = "one SOURCE, a folder, a file or a name on the hub" if wanted else "flags alone"
        told = " ".join(arguments) or "nothing"
        raise UserError(f"convert {command} takes {usage}, but was given {told}")
    _COMMANDS[command](*arguments)


def _take_words(argv: list[str]) -> list[str]:
    """Takes off `argv` what stands before the first flag: the command and its arguments."""
    words = []
    while argv[1:] and not argv[1].startswith("-"):
        words.append(argv.pop(1))
    return words


if __name__ == "__main__":
    words = _take_words(sys.argv)
    run(lambda argv: main("".join(words[:1]), words[1:]))
