"""Plans a run without its devices and its data: python -m multimodal.plan
--config=FILE[:key=value,...] [--topology=v5e:16x16] [--slices=N] [--json=FILE]
[--config.a.b=value ...].
"""

import json
from pathlib import Path

from absl import flags

from multimodal.command import config_from_flags, run
from multimodal.errors import UserError
from multimodal.parallel.topology import devices_of
from multimodal.planning.plan import plan

_TOPOLOGY = flags.DEFINE_string("topology", None, "What to plan for, such as v5e:16x16.")
_SLICES = flags.DEFINE_integer("slices", 1, "How many of them, joined by the slower network.")
_JSON = flags.DEFINE_string("json", None, "File to write the figures to.")


def main(argv: list[str]) -> None:
    config = config_from_flags()
    if not _TOPOLOGY.value:
        raise UserError("--topology=NAME is missing, such as v5e:16x16")
    figures = plan(config, _TOPOLOGY.value, devices_of(_TOPOLOGY.value, _SLICES.value)).figures()
    text = json.dumps(figures, indent=2)
    print(text)
    if _JSON.value:
        Path(_JSON.value).write_text(text + "\n")


if __name__ == "__main__":
    run(main)
