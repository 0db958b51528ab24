"""What an import maps onto what, for people."""

import math
import os
from collections.abc import Mapping

from multimodal.interop.convert import Origin


def mapping_table(layout: str, found: Mapping[str, Origin]) -> str:
    """One line a part of the model: its parameters, the tensors that they are made of, how many
    of either, and millions of numbers; then the sum."""
    groups: dict[str, list[str]] = {}
    for path in found:
        groups.setdefault(_part(path), []).append(path)
    rows = [("tensors there", "", "parameters here", "", "millions")]
    for group, paths in groups.items():
        rows.append((_common(paths, found), *_counts(paths, found, group)))
    rows.append((layout, *_counts(list(found), found, "all")))
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    lines = [
        f"{a:<{widths[0]}}  {n:>{widths[1]}}  {b:<{widths[2]}}  {m:>{widths[3]}}  {x:>{widths[4]}}"
        for a, n, b, m, x in rows
    ]
    return "\n".join(lines)


def _part(path: str) -> str:
    """`towers/image/stack` of `towers/image/stack/blocks/mlp/up/kernel`."""
    names = path.split("/")
    return "/".join(names[: 3 if names[0] == "towers" else 1])


def _counts(paths: list[str], found: Mapping[str, Origin], told: str) -> tuple[str, str, str, str]:
    names = {name for path in paths for name in found[path].names}
    size = sum(
        math.prod(tensor.shape) / found[path].parts
        for path in paths
        for tensor in found[path].tensors
    )
    return f"{len(names):,}", told, f"{len(paths):,}", f"{size / 1e6:,.3f}"


def _common(paths: list[str], found: Mapping[str, Origin]) -> str:
    names = sorted({name for path in paths for name in found[path].names})
    return names[0] if len(names) == 1 else f"{os.path.commonprefix(names)}*"
