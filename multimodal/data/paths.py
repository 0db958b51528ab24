"""Which files a path of the settings stands for."""

import glob
import os
import re
from collections.abc import Sequence

from multimodal.errors import UserError


def expand(path: str | Sequence[str], suffix: str = "") -> list[str]:
    """Files of `shard-{000..999}.tar`, `shard-*.tar`, one file, `A::B`, or a list, in that order.

    A folder stands for its files that end in `suffix`, by name. Raises UserError for a path that
    does not exist and for a folder without such a file.
    """
    if isinstance(path, str) and "::" in path:
        path = path.split("::")
    if not isinstance(path, str):
        return [found for one in path for found in expand(one, suffix)]
    braces = re.search(r"\{(\d+)\.\.(\d+)\}", path)
    if braces:
        first, last = braces.groups()
        head, tail = path[: braces.start()], path[braces.end() :]
        numbers = range(int(first), int(last) + 1)
        return [p for n in numbers for p in expand(f"{head}{n:0{len(first)}d}{tail}", suffix)]
    path = os.path.expanduser(path)
    if os.path.isfile(path):
        return [path]
    if suffix and os.path.isdir(path):
        found = sorted(entry.path for entry in os.scandir(path) if entry.name.endswith(suffix))
        if not found:
            raise UserError(f"data.source.path: no file *{suffix} in the folder {path}")
        return found
    found = sorted(p for p in glob.glob(path) if os.path.isfile(p))
    if not found:
        raise UserError(f"data.source.path: no such file: {path}")
    return found
