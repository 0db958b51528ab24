"""Other ways to run the same thing: meshes, what is kept for the backward pass, microbatches."""

import dataclasses
import itertools
import logging
import math
import typing
from collections.abc import Iterator
from typing import Any

import jax

from multimodal.config import Config, Keep, MeshShape, Transformer, parts, with_stacks
from multimodal.errors import UserError
from multimodal.parallel.mesh import AXES, axis_sizes
from multimodal.planning.plan import Assumptions, Plan, plan
from multimodal.planning.program import DoesNotFit

log = logging.getLogger("multimodal")

KEEPS = typing.get_args(Keep)  # from what keeps most to what keeps least


@dataclasses.dataclass(frozen=True)
class Choice:
    """What decides how a step is laid out, not what it computes."""

    mesh: MeshShape
    keep: str
    accumulate: int
    gather: str = "compiler"

    def of(self, config: Config) -> Config:
        layout = {name: getattr(self, name) for name in ("mesh", "accumulate", "gather")}
        return dataclasses.replace(
            config, model=with_stacks(config.model, keep=self.keep), **layout
        )

    def __str__(self) -> str:
        mesh = [f"{axis} {n}" for axis, n in dataclasses.asdict(self.mesh).items() if n != 1]
        split = f", {self.accumulate} microbatches" if self.accumulate > 1 else ""
        parts = f", parameters in parts by {self.gather}" if self.gather != "compiler" else ""
        return f"{' x '.join(mesh) or 'one device'}, keeping {self.keep}{split}{parts}"


def choice_of(config: Config, devices: int) -> Choice:
    """The config's own; where its stacks differ in what they keep, that of the first."""
    keeps = [part.keep for _, part in parts(config.model) if isinstance(part, Transformer)]
    sizes = axis_sizes(dataclasses.asdict(config.mesh), devices)
    mesh = dataclasses.replace(config.mesh, **dict(zip(AXES, sizes, strict=True)))
    return Choice(mesh, (keeps or [KEEPS[0]])[0], config.accumulate, config.gather)


def neighbours(found: Plan) -> list[Choice]:
    """One change away from a plan, the most promising first: for room where it does not fit, less
    traffic where that is what binds it; none for a plan that computes all the time."""
    devices, by = len(found.devices), found.bounds[found.longest].by
    own = choice_of(found.config, devices)
    if found.fits is False:
        return too_large(own, devices)
    at = KEEPS.index(own.keep)
    keeps_more = [dataclasses.replace(own, keep=r) for r in reversed(KEEPS[:at])]
    joined = dataclasses.replace(own, accumulate=own.accumulate // 2)
    finer, coarser = _resharded(own, 2), _resharded(own, 0.5)
    in_parts = dataclasses.replace(own, gather="step")
    if by == "memory":
        return _other(own, [*keeps_more, joined, coarser, finer])
    if by in ("interconnect", "network"):
        return _other(own, [in_parts, coarser, joined, finer, *keeps_more])
    return []


def too_large(own: Choice, devices: int) -> list[Choice]:
    """Changes that make room."""
    at = KEEPS.index(own.keep)
    keeps_less = [dataclasses.replace(own, keep=r) for r in reversed(KEEPS[at + 1 :])]
    split = [dataclasses.replace(own, accumulate=own.accumulate * n) for n in (2, 4)]
    finer, whole = _resharded(own, 2), _resharded(own, devices)
    parts = [dataclasses.replace(own, gather=gather) for gather in ("step", "layer")]
    order = [*keeps_less[:1], split[0], *parts, finer, whole, split[1], *keeps_less[1:]]
    return _other(own, order)


def _other(own: Choice, order: list[Choice | None]) -> list[Choice]:
    return [c for c in dict.fromkeys(order) if c and c != own and c.accumulate >= 1]


def grid(config: Config, devices: int) -> Iterator[list[Choice]]:
    """Rows of choices that differ in what is kept alone, from the fastest to the smallest: once one
    of a row fits, the rest of it is slower. Fewer microbatches and coarser meshes come first.
    Parameters are tried in parts on the squarest mesh, where they travel along short lines."""
    own = choice_of(config, devices)
    step = 2 if devices <= 16 else 4  # of a large mesh every other power of two
    shards = [step**n for n in range(devices.bit_length()) if devices % step**n == 0]
    square = min(shards, key=lambda n: abs(math.log(n * n / devices)))
    for accumulate, tensor, fsdp in itertools.product((1, 2, 4, 8), (1, 2), shards):
        rest = tensor * fsdp * own.mesh.sequence
        if devices % rest or (devices // rest) % own.mesh.slices:
            continue
        mesh = dataclasses.replace(own.mesh, data=devices // rest, fsdp=fsdp, tensor=tensor)
        gathers = dict.fromkeys([own.gather] + ["step", "layer"] * (tensor == 1 and fsdp == square))
        for gather in gathers:
            yield [Choice(mesh, keep, accumulate, gather) for keep in KEEPS]


def search(
    config: Config,
    topology: str,
    devices: list[jax.Device],
    assumptions: Assumptions,
    tries: int,
) -> list[dict[str, Any]]:
    """Compiles up to `tries` choices; those that fit come first, the fastest of them before."""
    rows: list[dict[str, Any]] = []
    for row in grid(config, len(devices)):
        for choice in row:
            if len(rows) == tries:
                return ranked(rows)
            tried = attempt(choice, config, topology, devices, assumptions)
            if tried is None:
                continue
            rows.append(tried)
            if tried["figures"] and tried["figures"]["fits"]:
                break
    return ranked(rows)


def attempt(
    choice: Choice,
    config: Config,
    topology: str,
    devices: list[jax.Device],
    assumptions: Assumptions,
) -> dict[str, Any] | None:
    """{change, how, figures} of one choice, compiled; figures None where the compiler gave up, and
    nothing at all for a choice that the config cannot take."""
    try:
        figures = plan(choice.of(config), topology, devices, assumptions).figures()
    except DoesNotFit:
        figures = None
    except UserError as error:
        log.info("%s: left out: %s", choice, error)
        return None
    log.info("%s: %s", choice, "fits" if figures and figures["fits"] else "does not fit")
    return {"change": str(choice), "how": "compiled", "figures": figures}


def ranked(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    def place(row: dict[str, Any]) -> tuple:
        f = row["figures"]
        if f is None:
            return (2, 0.0, 0)
        seconds = f["step_seconds_lower_bound"] or 0.0
        return (0 if f["fits"] else 1, seconds, f["hbm_bytes_per_device"])

    return sorted(rows, key=place)


def _resharded(choice: Choice, factor: float) -> Choice | None:
    """fsdp times `factor`, at most all of the devices that data and fsdp have, with data less."""
    m = choice.mesh
    both = m.data * m.fsdp // m.slices
    fsdp = min(int(m.fsdp * factor), both)
    if fsdp < 1 or both % fsdp:
        return None
    return dataclasses.replace(
        choice, mesh=dataclasses.replace(m, data=both // fsdp * m.slices, fsdp=fsdp)
    )
