"""Plans a run without its devices and without its data: python -m multimodal.plan
--config=FILE[:key=value,...] [--topology=v5e:16x16] [--slices=N] [--search] [--json=FILE]
[--config.a.b=value ...]. docs/planning.md has the rest.
"""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from absl import flags

from multimodal.command import config_from_flags, recipe_from_flags, run
from multimodal.config import Config
from multimodal.errors import UserError
from multimodal.parallel.topology import devices_of, simulate
from multimodal.planning import table
from multimodal.planning.claims import claimed
from multimodal.planning.plan import Assumptions, plan
from multimodal.planning.program import DoesNotFit
from multimodal.planning.search import attempt, choice_of, neighbours, ranked, search, too_large

_TOPOLOGY = flags.DEFINE_string(
    "topology", None, "What to plan for, such as v5e:16x16; else what the recipe says it is for."
)
_SLICES = flags.DEFINE_integer("slices", None, "TPU slices, joined by the slower network.")
_JSON = flags.DEFINE_string("json", None, "File to write all figures to.")
_LINE = flags.DEFINE_bool("line", False, "One line in place of a page, and no suggestions.")
_SEARCH = flags.DEFINE_bool("search", False, "Tries meshes, what blocks keep, and microbatches.")
_TRIES = flags.DEFINE_integer("tries", None, "Changes to compile: 2, or 12 of a search.")
_PRICE = flags.DEFINE_float("price", None, "Of a chip for an hour.")
_DISK = flags.DEFINE_float("checkpoint_gb_per_second", 0.5, "What each host writes, in GB/s.")


def main(argv: list[str]) -> None:
    config = _sliced(config_from_flags())
    topology = _TOPOLOGY.value or claimed(recipe_from_flags())
    assumptions = Assumptions(_PRICE.value, _DISK.value * 1e9)
    simulate(topology)
    devices = devices_of(topology, config.mesh.slices)
    if _SEARCH.value:
        rows = search(config, topology, devices, assumptions, _TRIES.value or 12)
        print(f"{config.name} on {topology}, each compiled:\n{table.ranking(rows)}")
        return _save(rows)
    try:
        found = plan(config, topology, devices, assumptions)
    except DoesNotFit as error:
        changes = [] if _LINE.value else too_large(choice_of(config, len(devices)), len(devices))
        figures = {"name": config.name, "topology": topology, "fits": False, "reason": str(error)}
        told = f"{config.name} on {topology}: does not fit: {error}"
    else:
        changes, figures = [] if _LINE.value else neighbours(found), found.figures()
        told = table.line(figures) if _LINE.value else table.page(figures)
    print(told, flush=True)
    tries = 2 if _TRIES.value is None else _TRIES.value
    rows = [attempt(c, config, topology, devices, assumptions) for c in changes[:tries]]
    if rows := ranked([row for row in rows if row]):
        print(f"\none change away, each compiled:\n{table.ranking(rows)}")
    _save(figures | {"suggestions": rows})
    if _LINE.value and figures["fits"] is False:
        sys.exit(1)


def _sliced(config: Config) -> Config:
    if _SLICES.value is None:
        return config
    if _SLICES.value < 1:
        raise UserError(f"--slices={_SLICES.value}: at least 1")
    return dataclasses.replace(config, mesh=dataclasses.replace(config.mesh, slices=_SLICES.value))


def _save(figures: Any) -> None:
    if _JSON.value:
        Path(_JSON.value).write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    run(main)
