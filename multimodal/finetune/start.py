"""Begins a new run from the parameters of another run's checkpoint."""

import dataclasses
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import jax

from multimodal.checkpoint.adapted import PREFIX, added
from multimodal.checkpoint.bundle import Checkpoints
from multimodal.checkpoint.locate import locate
from multimodal.config import Config, Lora, Model, Start, from_dict
from multimodal.data.tokenizers import Tokenizer, load_tokenizer
from multimodal.errors import UserError
from multimodal.finetune import agreement
from multimodal.finetune import fit as fitting
from multimodal.finetune.agreement import Meaning, disagreements, part_of
from multimodal.finetune.fit import Fit
from multimodal.parallel.rules import replicated
from multimodal.preprocessing import Preprocessing
from multimodal.schema import closest, nearest
from multimodal.training import ema
from multimodal.training.state import TrainState

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Beginning:
    """A checkpoint that fits: `sources` maps parameters of the new run to tensors stored there,
    which some of the `fits` change first; what that run adapted by `lora` is merged."""

    checkpoints: Checkpoints
    step: int
    sources: dict[str, str]
    fits: dict[str, Fit] = field(default_factory=dict)
    lora: Lora | None = None

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
        for path, fit in self.fits.items():
            log.info("%s: %s", path, fit.told)
        return dataclasses.replace(state, params=params, ema=average)

    def _read(self, params: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        saved, wanted = self.checkpoints.tensors(self.step), {}
        loaded = self._changed(params)
        whole = self.sources.keys() - loaded
        for path in sorted(whole):
            old, tensor = params[path], self.sources[path]
            dtype = saved[tensor][1]
            target = jax.ShapeDtypeStruct(old.shape, dtype, sharding=old.sharding)
            wanted[path] = (tensor, target, old.dtype)
        _give_up(params, whole)
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

    def _changed(self, params: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """The parameters that are not as they are stored, one after the other."""
        saved, found = self.checkpoints.tensors(self.step), {}
        for path, tensor in self.sources.items():
            own, fit, old = self._adaptation(tensor), self.fits.get(path), params[path]
            if fit is None and not own:
                continue
            place = old.sharding if fit is None else replicated(old.sharding.mesh)
            target = {
                name: jax.ShapeDtypeStruct(
                    *saved[name], sharding=place if name == tensor else replicated(place.mesh)
                )
                for name in (tensor, *own)
            }
            stored = self.checkpoints.restore_some(self.step, target)

            def made(stored: dict, old: jax.Array, tensor=tensor, own=own, fit=fit) -> jax.Array:
                x = stored[tensor]
                x = added(x, *(stored[name] for name in own), self.lora) if own else x
                x = fit.change(x, old) if fit else x
                return x.astype(old.dtype)

            found[path] = jax.jit(made, out_shardings=old.sharding)(stored, old)
            old.delete()
        return found

    def _adaptation(self, tensor: str) -> list[str]:
        """The names of the small tensors that belong to one that was adapted."""
        prefix = _prefix([tensor])
        names = [f"{prefix}{PREFIX}{tensor.removeprefix(prefix)}/{name}" for name in "ab"]
        return names if self.lora and names[0] in self.checkpoints.tensors(self.step) else []

    def _unused(self) -> list[str]:
        prefix = _prefix(self.checkpoints.tensors(self.step))
        used = {name for t in self.sources.values() for name in (t, *self._adaptation(t))}
        left = self.checkpoints.tensors(self.step).keys() - used
        return [name.removeprefix(prefix) for name in left if name.startswith(prefix)]


def find(
    start: Start,
    now: Meaning,
    shapes: Mapping[str, jax.ShapeDtypeStruct],
    tokenizer: Tokenizer | None = None,
) -> Beginning:
    """The checkpoint that `start` names, checked against the new run; nothing is read yet.

    `shapes` are of the new run's parameters by path; the moving average is taken where one was
    kept. Positions of towers may be of another number, and with the new run's `tokenizer` tables
    of another vocabulary (see `finetune/fit.py`). Raises UserError, naming the setting or the
    parameter, when the checkpoint is not there, was trained on other input or as another model
    than `start.accept` allows, or lacks a parameter or has it in another shape.
    """
    where = "config.start"
    for name in start.accept:
        if name not in agreement.names():
            raise UserError(f"{where}.accept: {name!r}{nearest(name, agreement.names())}")
    paths = rename(start, shapes)
    checkpoints, step = locate(Path(start.checkpoint), start.step)
    saved = checkpoints.tensors(step)
    prefix = _prefix(saved)
    meta = checkpoints.meta(step)
    then = _meaning(meta)
    _check_meaning(start, now, then, paths)
    before = None
    if tokenizer is not None and _reads_text(now.model, paths):
        same = meta["tokenizer"]["fingerprint"] == tokenizer.fingerprint
        before = tokenizer if same else _saved_tokenizer(checkpoints, step, meta["tokenizer"])
    fits = {}
    for path, source in paths.items():
        shape = tuple(shapes[path].shape)
        there = _stored_shape(start, path, source, saved, prefix)
        fit = None
        if shape != there:
            towers = part_of(now.model, path)[1], part_of(then.model, source)[1]
            fit = fitting.positions(path, *towers, shape, there)
        if before is not None and fit is None:
            fit = fitting.vocabulary(path, now.model, tokenizer, before, shape, there)
        if fit is not None:
            fits[path] = fit
        elif shape != there:
            raise UserError(
                f"config.start: {_told(path, source)} has shape {shape} but {there} in "
                f"{start.checkpoint}; leave it out by config.start.only, or set the model as there"
            )
    adapted = from_dict(Config, meta["config"], "saved config").lora
    sources = {path: prefix + source for path, source in paths.items()}
    return Beginning(checkpoints, step, sources, fits, adapted)


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


def _stored_shape(
    start: Start, path: str, source: str, saved: Mapping[str, list], prefix: str
) -> tuple[int, ...]:
    if prefix + source not in saved:
        known = [name.removeprefix(prefix) for name in saved if name.startswith(prefix)]
        raise UserError(
            f"config.start: {start.checkpoint} has no parameter for {_told(path, source)}; the "
            "nearest is "
            f"{closest(source, known)}; leave it out by config.start.only, or name it in "
            "config.start.rename"
        )
    return tuple(saved[prefix + source][0])


def _told(path: str, source: str) -> str:
    return path if path == source else f"{path} (there {source})"


def _reads_text(model: Model, paths: Iterable[str]) -> bool:
    """Whether any of these parameters has an entry a token."""
    return any(fitting.per_token(path, model) is not None for path in paths)


def _saved_tokenizer(checkpoints: Checkpoints, step: int, told: dict) -> Tokenizer:
    """That of the checkpoint, whose file came along."""
    file = checkpoints.file(step, told["file"]) if told["file"] else "bytes"
    return load_tokenizer(str(file), told["pad_id"])


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
