"""What the commands share: flags, log lines, and errors as one line."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import ConfigDict, config_flags
from tqdm import tqdm

from multimodal import recipe
from multimodal.config import Config
from multimodal.errors import UserError
from multimodal.parallel import processes
from multimodal.parallel.compilation import keep_compiled
from multimodal.schema import nearest

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.")
_CACHE = flags.DEFINE_string(
    "compilation_cache", None, "Folder of compiled programs, or off; by default the user's cache."
)
_CONFIG = "--config="


def run(main: Callable[[list[str]], None]) -> None:
    """Runs a command; a UserError, or a file that cannot be used, ends it with one line and exit
    status 2."""

    def guarded(argv: list[str]) -> None:
        # After app.run, which puts a handler of its own in place.
        logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[Log()], force=True)
        absl_logging.set_verbosity(absl_logging.WARNING)
        for noisy in ("jax", "orbax", "grain", "etils"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        main(argv)

    try:
        app.run(guarded, argv=_take_config(sys.argv), flags_parser=_parse)
    except (UserError, OSError) as error:
        told = str(error)
        if isinstance(error, OSError):
            if error.filename is None:
                raise
            told = f"{error.strerror}: {error.filename}"
        tqdm.write(f"error: {told}", file=sys.stderr)  # on a line of its own, bar or no bar
        sys.exit(2)


class Log(logging.Handler):
    """Each message on a line of its own, above a bar that is there."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


def _parse(argv: list[str]) -> list[str]:
    try:
        rest = flags.FLAGS(argv)
    except flags.Error as error:
        raise UserError(" ".join(str(error).split())) from error
    if rest[1:]:
        raise UserError(f"{rest[1]!r} is not understood; settings are given as --config.a.b=value")
    return rest


def _take_config(argv: list[str]) -> list[str]:
    """Loads `--config=FILE[:arg]` and makes each of its settings a flag `--config.a.b`."""
    argv = _joined(argv)
    given = [arg[len(_CONFIG) :] for arg in argv if arg.startswith(_CONFIG)]
    rest = [arg for arg in argv if not arg.startswith(_CONFIG)]
    if given:
        path, _, arg = given[-1].partition(":")
        config = recipe.load(path, arg)
        for item in rest:
            if item.startswith("--config."):
                _check_path(config, item[2:].partition("=")[0])
        config_flags.DEFINE_config_dict("config", config, lock_config=False, sys_argv=rest)
    return rest


def _joined(argv: list[str]) -> list[str]:
    """`--config FILE` as one argument."""
    if "--config" not in argv[:-1]:
        return argv
    at = argv.index("--config")
    return [*argv[:at], f"{_CONFIG}{argv[at + 1]}", *argv[at + 2 :]]


def _check_path(config: ConfigDict, path: str) -> None:
    where, node = "config", config
    for name in path.split(".")[1:]:
        if not isinstance(node, ConfigDict) or name not in node:
            known = node if isinstance(node, ConfigDict) else ()
            raise UserError(f"--{where}.{name}: no such setting{nearest(name, known)}")
        if node.get_type(name) is type(None):
            raise UserError(f"--{where}.{name} is a table of settings; write it into the recipe")
        where, node = f"{where}.{name}", node[name]


def join() -> None:
    """Joins the job, and has what it compiles kept for the next one. Raises UserError."""
    processes.join()
    keep_compiled(_CACHE.value)


def config_from_flags() -> Config:
    """The run's Config with the flags' changes. Raises UserError."""
    if "config" not in flags.FLAGS:
        raise UserError("--config=FILE is missing; see configs/ for recipes")
    config = recipe.finish(flags.FLAGS.config)
    if not config.tasks:
        raise UserError(
            "config.tasks: a run needs at least one task; to train what was imported, name its "
            "folder as config.start.checkpoint in a recipe"
        )
    return config


def recipe_from_flags() -> str:
    """The file that --config names, without the recipe's options."""
    given = [arg[len(_CONFIG) :] for arg in _joined(sys.argv) if arg.startswith(_CONFIG)]
    return given[-1].partition(":")[0]


def workdir_from_flags() -> Path:
    """The run folder. Raises UserError when it is not given."""
    if not _WORKDIR.value:
        raise UserError("--workdir=DIR is missing; it names the folder of the run")
    return Path(_WORKDIR.value).expanduser().absolute()
