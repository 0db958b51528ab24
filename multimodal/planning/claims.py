"""The accelerator that a recipe says it is for, in the first words of its file."""

import ast
import re
from pathlib import Path

from multimodal.errors import UserError
from multimodal.parallel.chips import CHIPS

_CLAIM = re.compile(rf"\bfor\s+((?:{'|'.join(CHIPS)}):\d+(?:x\d+)*)")
_CPU = re.compile(r"\bCPU\s+cores?\b")


def claimed(path: str) -> str:
    """`v5e:16x16` of a recipe whose docstring says "for v5e:16x16"; `cpu:1` where it speaks of CPU
    cores. Raises UserError where it names neither, or is no recipe's file."""
    file = Path(path)
    if file.suffix == ".py" and file.is_file():
        told = ast.get_docstring(ast.parse(file.read_text())) or ""
        if match := _CLAIM.search(told):
            return match[1]
        if _CPU.search(told):
            return "cpu:1"
    raise UserError(f"{path} names no accelerator: say --topology=NAME, such as v5e:16x16")
