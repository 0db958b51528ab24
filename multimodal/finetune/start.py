"""Begins a new run from the parameters of another run's checkpoint."""

import dataclasses
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import jax

from multimodal.checkpoint.bundle import Checkpoints
from multimodal.checkpoint.locate import locate
from multimodal.config import Config, Start, from_dict
from multimodal.errors import UserError
from multimodal.finetune import agreement
from multimodal.finetune.agreement import Meaning, disagreements
from multimodal.preprocessing import Preprocessing
from multimodal.schema import closest, nearest
from multimodal.training import ema
from multimodal.training.state import TrainState

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Beginning:
    """A checkpoint that fits: `sources` maps parameters of the new run to tensors stored there."""

    checkpoints: Checkpoints
    step: int
    sources: dict[str, str]

    def load(self, state: TrainState) -> TrainState:
        """`state` with these parameters, sharded as they are in `state`, whose own are given up;
        the moving average begins with them too. Optimiser and step stay new."""
        params = state.params | self._read(state.params)
        average = state.ema
        if average is not None:
            loaded = {path: params[path] for path in self.sources}
            placed = {path: average[path].sharding for path in self.sources}
            _give_up(average, self.sources)
            average = average | jax.jit(ema.init, out_shardings=placed)(loaded)
        new, rest = params.keys() - self.sources.keys(), self._unused()
        log.info(
            "began with %d of %d parameters of step %d in %s%s%s",
            *(len(self.sources), len(params), self.step, self.checkpoints.folder),
            f"; new here: {_few(new)}" if new else "",
            f"; not used: {_few(rest)}" if rest else "",
        )
        return dataclasses.replace(state, params=params, ema=average)

    def _read(self, params: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        saved, wanted = self.checkpoints.tensors(self.step), {}
        for path, tensor in self.sources.items():
            old = params[path]
            dtype = saved[tensor][1]
            target = jax.ShapeDtypeStruct(old.shape, dtype, sharding=old.sharding)
            wanted[path] = (tensor, target, old.dtype)
        _give_up(params, self.sources)
        loaded: dict[str, jax.Array] = {}
        while left := {path: w for path, w in wanted.items() if path not in loaded}:
            # A tensor that several parameters begin with is read for each, since each is donated.
            turn = {tensor: path for path, (tensor, _, _) in left.items()}
            found = self.checkpoints.restore_some(
                self.step, {tensor: wanted[path][1] for tensor, path in turn.items()}
            )
            for tensor, path in turn.items():
                same = found[tensor].dtype == wanted[path][2]
                loaded[path] = found[tensor] if same else found[tensor].astype(wanted[path][2])
        return loaded

    def _unused(self) -> list[str]:
        prefix = _prefix(self.checkpoints.tensors(self.step))
        left = self.checkpoints.tensors(self.step).keys() - set(self.sources.values())
        return [name.removeprefix(prefix) for name in left if name.startswith(prefix)]


def find(start: Start, now: Meaning, shapes: Mapping[str, jax.ShapeDtypeStruct]) -> Beginning:
    """The checkpoint that `start` names, checked against the new run; nothing is read yet.

    `shapes` are of the new run's parameters by path; the moving average is taken where one was
    kept. Raises UserError, naming the setting or the parameter, when the checkpoint is not there,
    was trained on other input or as another model than `start.accept` allows, or lacks a
    parameter or has it in another shape.
    """
    where = "config.start"
    for name in start.accept:
        if name not in agreement.names():
            raise UserError(f"{where}.accept: {name!r}{nearest(name, agreement.names())}")
    paths = rename(start, shapes)
    checkpoints, step = locate(Path(start.checkpoint), start.step)
    saved = checkpoints.tensors(step)
    prefix = _prefix(saved)
    _check_meaning(start, now, _meaning(checkpoints.meta(step)), paths)
    for path, source in paths.items():
        _check_tensor(start, path, source, shapes[path].shape, saved, prefix)
    return Beginning(checkpoints, step, {path: prefix + s for path, s in paths.items()})


def rename(start: Start, paths: Iterable[str]) -> dict[str, str]:
    """Path here -> path in the checkpoint, of those that `start.only` matches.

    Patterns match a whole path; the first of `start.rename` decides. Raises UserError for one
    that is no regular expression or matches nothing.
    """
    paths = sorted(paths)
    chosen = {p for pattern in start.only for p in _matching(pattern, paths, "only")}
    sources = {path: path for path in paths if path in chosen}
    renamed: set[str] = set()
    for pattern, template in start.rename:
        for path in _matching(pattern, sources, "rename"):
            if path not in renamed:
                renamed.add(path)
                sources[path] = _expand(pattern, template, path)
    return sources


def _matching(pattern: str, paths: Iterable[str], setting: str) -> list[str]:
    where = f"config.start.{setting}"
    try:
        found = [path for path in paths if re.fullmatch(pattern, path)]
    except re.error as error:
        raise UserError(f"{where}: {pattern!r} is no regular expression: {error}") from None
    if not found:
        raise UserError(
            f"{where}: {pattern!r} matches no parameter of this run as a whole; the nearest is "
            f"{closest(pattern, paths)}"
        )
    return found


def _expand(pattern: str, template: str, path: str) -> str:
    try:
        return re.fullmatch(pattern, path).expand(template)
    except (re.error, IndexError) as error:
        raise UserError(f"config.start.rename: {pattern!r} to {template!r}: {error}") from None


def _check_meaning(start: Start, now: Meaning, then: Meaning, sources: dict[str, str]) -> None:
    found = [d for d in disagreements(now, then, sources) if d.name not in start.accept]
    if found:
        told = "; ".join(f"{d.where}={d.now!r} but there {d.then!r}" for d in found)
        accept = ", ".join(repr(name) for name in dict.fromkeys(d.name for d in found))
        raise UserError(
            f"config.start: the checkpoint {start.checkpoint} was trained otherwise: {told}; set "
            f"them as there, or, where that is meant, config.start.accept=[{accept}]"
        )


def _check_tensor(
    start: Start,
    path: str,
    source: str,
    shape: tuple[int, ...],
    saved: Mapping[str, list],
    prefix: str,
) -> None:
    told = path if path == source else f"{path} (there {source})"
    if prefix + source not in saved:
        known = [name.removeprefix(prefix) for name in saved if name.startswith(prefix)]
        raise UserError(
            f"config.start: {start.checkpoint} has no parameter for {told}; the nearest is "
            f"{closest(source, known)}; leave it out by config.start.only, or name it in "
            "config.start.rename"
        )
    there = tuple(saved[prefix + source][0])
    if there != tuple(shape):
        raise UserError(
            f"config.start: {told} has shape {tuple(shape)} but {there} in {start.checkpoint}; "
            "leave it out by config.start.only, or set the model as there"
        )


def _meaning(meta: dict) -> Meaning:
    return Meaning(
        from_dict(Config, meta["config"], "saved config").model,
        from_dict(Preprocessing, meta["preprocessing"], "saved preprocessing"),
        meta["tokenizer"],
    )


def _prefix(saved: Iterable[str]) -> str:
    return "ema/" if any(name.startswith("ema/") for name in saved) else "params/"


def _give_up(params: Mapping[str, jax.Array], paths: Iterable[str]) -> None:
    """Frees what is replaced before that is read: parameters are not held twice."""
    for path in paths:
        params[path].delete()


def _few(names: Iterable[str]) -> str:
    names = sorted(names)
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
