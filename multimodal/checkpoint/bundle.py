"""Checkpoints of a run: state, data position, config, preprocessing and the files that this needs,
together or not at all.

One folder a step, `checkpoints/00001000`, written by Orbax in the background and put in its place
by a rename. The state is stored flat, under names such as `opt_state/0/mu/text/embed`, so that what
does not fit is named here rather than deep inside Orbax, and parts can be read alone.
Orbax's free functions are used rather than its Checkpointer, because the order matters: first the
checkpoint, then the list of its files (see `completeness`), only then are older ones removed.
"""

import itertools
import json
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from orbax.checkpoint import v1 as ocp

from multimodal import config
from multimodal.checkpoint import completeness
from multimodal.checkpoint.folder import (
    clear_up,
    pass_over,
    path_of,
    remove_halves,
    remove_old,
    set_aside,
    steps_in,
    trouble,
)
from multimodal.checkpoint.tree import abstract, flatten, misfits, replicated
from multimodal.errors import UserError

_LITTLE = 1 << 26  # bytes


class Checkpoints:
    """The checkpoints in `folder`. Without `settings` they are only read, and nothing is touched.

    With several processes every method is called by all of them, in the same order; the first one
    decides what is whole, and renames and removes. The folder is one that all of them see.
    Raises UserError when the folder cannot be made or, for reading, does not exist.
    """

    def __init__(self, folder: Path, settings: config.Checkpoints | None = None) -> None:
        self.folder = Path(folder).absolute()
        self.settings = settings
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future | None = None
        _quieten_orbax()
        if settings is None:
            if not self.folder.is_dir():
                raise UserError(f"no checkpoints in {self.folder}: the folder does not exist")
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"cannot keep checkpoints in {self.folder}: {error.strerror}"
            ) from error
        if jax.process_index() == 0:
            clear_up(self.folder, settings.keep)

    def should_save(self, step: int) -> bool:
        """Whether `step` is one of every `settings.every`."""
        return step > 0 and step % self.settings.every == 0

    def save(
        self,
        step: int,
        state: Any,
        meta: dict,
        force: bool = False,
        files: Mapping[str, bytes] | None = None,
        copy: bool = True,
    ) -> bool:
        """Starts saving `state` (a tree of arrays) and `meta` (JSON); the writing happens behind.

        `files`, by name, lie in the checkpoint's folder as they are, such as a tokenizer's.
        The arrays may be donated or deleted as soon as this returns; without `copy`, which takes
        less memory on the host, only when `wait` has returned. Does nothing and returns
        False when `should_save(step)` is false, unless `force`d, and when `step` is already here.
        Raises UserError when this save cannot begin, or when the one before failed.
        """
        if not (force or self.should_save(step)):
            return False
        self.wait()
        if _agree(lambda: [s for s in steps_in(self.folder) if s == step and self._is_whole(s)]):
            return False
        tensors = flatten(state)
        meta = json.loads(json.dumps(meta))  # refused here rather than behind
        files = dict(files or {})
        record = {
            "meta": meta,
            "tensors": {n: abstract(x) for n, x in tensors.items()},
            "files": completeness.fingerprints(files),
        }
        stored = {name: x for name, x in tensors.items() if np.prod(x.shape)}  # see `_load`

        largest = max((_bytes(x) for x in stored.values()), default=0)

        def start() -> ocp.AsyncResponse:
            with _context(at_once=None if copy else max(_LITTLE, largest + 1)):
                return ocp.save_async(self._path(step), stored, custom_metadata=record)

        response = self._storing(step, start)
        self._pending = self._writer.submit(
            self._storing, step, lambda: self._finish(step, response, files)
        )
        return True

    def steps(self) -> list[int]:
        """Steps with a whole checkpoint, oldest first; waits for the save in progress."""
        self.wait()
        return _agree(lambda: [s for s in steps_in(self.folder) if self._is_whole(s)])

    def latest(self) -> int | None:
        """The newest step with a whole checkpoint. What is torn is set aside, with a warning."""
        self.wait()
        whole = (step for step in reversed(steps_in(self.folder)) if self._is_whole(step))
        found = _agree(lambda: list(itertools.islice(whole, 1)))
        return found[0] if found else None

    def meta(self, step: int) -> dict:
        """What `save` was given beside the state."""
        return self._record(step)["meta"]

    def tensors(self, step: int) -> dict[str, list]:
        """`[shape, dtype]` of every tensor of the state by its path, such as `params/a/b`."""
        return self._record(step)["tensors"]

    def file(self, step: int, name: str) -> Path:
        """Where the file is that `save` was given as `name`."""
        return self._path(step) / name

    def restore(self, step: int, target: Any) -> Any:
        """The state of `step`, to the bit, sharded as `target`: a tree of jax.ShapeDtypeStruct.

        The mesh may be another one than at save time. Raises UserError, naming the tensors, when
        names, shapes or dtypes differ; nothing is cast.
        """
        return self._load(step, flatten(target), target, lambda name: True)

    def restore_params(self, step: int, target: Any = None, ema: bool | None = None) -> Any:
        """Only the parameters of `step`: their moving average where one was saved.

        `ema` True insists on the average, False on the parameters themselves. Without a `target`
        they come back by path, as models name them, whole on every device. Raises UserError as
        `restore` does.
        """
        saved = self._record(step)["tensors"]
        averaged = any(name.startswith("ema/") for name in saved)
        if ema and not averaged:
            raise UserError(f"{self._path(step)} holds no moving average (config.ema was not set)")
        prefix = "ema/" if averaged and ema is not False else "params/"
        if target is None:
            found = {name: x for name, x in saved.items() if name.startswith(prefix)}
            if not found:
                raise UserError(f"{self._path(step)} holds no tensor whose name begins {prefix!r}")
            target = {name.removeprefix(prefix): replicated(*x) for name, x in found.items()}
        named = {prefix + name: leaf for name, leaf in flatten(target).items()}
        return self._load(step, named, target, lambda name: name.startswith(prefix))

    def restore_some(
        self, step: int, target: dict[str, jax.ShapeDtypeStruct]
    ) -> dict[str, jax.Array]:
        """Some tensors of `step` alone, by their paths in the state, sharded as `target` says.

        Raises UserError as `restore` does, but not for tensors that are left over.
        """
        return self._load(step, flatten(target), target, target.__contains__)

    def wait(self) -> None:
        """Returns when the save in progress is on disk; raises UserError if it failed."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def close(self) -> None:
        """Waits, as `wait` does, and stops the thread behind."""
        try:
            self.wait()
        finally:
            self._writer.shutdown()

    def _path(self, step: int) -> Path:
        return path_of(self.folder, step)

    def _record(self, step: int) -> dict:
        self.wait()  # it may be the one that is being written
        try:
            return completeness.read_record(self._path(step))
        except (OSError, ValueError, KeyError) as error:
            steps = ", ".join(map(str, steps_in(self.folder))) or "none"
            raise UserError(f"no checkpoint {self._path(step)}; steps here: {steps}") from error

    def _load(self, step: int, wanted: dict, target: Any, among: Callable[[str], bool]) -> Any:
        saved = {name: x for name, x in self.tensors(step).items() if among(name)}
        if wrong := misfits(saved, {name: abstract(x) for name, x in wanted.items()}):
            more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
            raise UserError(
                f"{self._path(step)} does not fit this model: {'; '.join(wrong[:3])}{more}; "
                "use the config it was saved with (config.json in the run folder) or a new folder"
            )
        if damage := completeness.find_damage(self._path(step)):
            raise UserError(f"checkpoint {self._path(step)} is torn: {damage}; use another step")
        placed = {n: x if x.sharding else replicated(*abstract(x)) for n, x in wanted.items()}
        stored = {name: x for name, x in placed.items() if np.prod(x.shape)}
        loaded = {
            name: jax.device_put(np.zeros(x.shape, x.dtype), x.sharding)
            for name, x in placed.items()
            if name not in stored  # of size 0, which Orbax cannot store
        }
        with _context(partial=True):
            loaded |= ocp.load(self._path(step), stored, checkpointable_name=completeness.STATE)
        return jax.tree.unflatten(jax.tree.structure(target), [loaded[name] for name in wanted])

    def _finish(self, step: int, response: ocp.AsyncResponse, files: dict[str, bytes]) -> None:
        response.result()
        if jax.process_index() == 0:
            for name, content in files.items():
                (self._path(step) / name).write_bytes(content)
            completeness.write_manifest(self._path(step))
            remove_old(self.folder, self.settings.keep, self.settings.keep_every)

    def _is_whole(self, step: int) -> bool:
        path = self._path(step)
        damage = completeness.find_damage(path)
        if damage and path.exists():  # a run that still trains may just have removed it
            (pass_over if self.settings is None else set_aside)(path, f"is torn: {damage}")
        if not (damage or self.settings is None or completeness.has_manifest(path)):
            completeness.write_manifest(path)  # the process died between the rename and the list
        return not damage

    def _storing(self, step: int, work: Callable[[], Any]) -> Any:
        """Runs `work`; what the storage refuses becomes one line, and the half is removed."""
        try:
            return work()
        except Exception as error:
            if jax.process_index() == 0:
                remove_halves(self.folder)
            reason = trouble(error)
            if reason is None:
                raise
            raise UserError(
                f"cannot save step {step} in {self.folder}: {reason}; make room or allow writing "
                "there, or choose another --workdir; earlier checkpoints are untouched"
            ) from error


def _bytes(array: Any) -> int:
    """Of it that this process holds."""
    shape = array.sharding.shard_shape(array.shape) if hasattr(array, "sharding") else array.shape
    return int(np.prod(shape)) * array.dtype.itemsize


def _context(partial: bool = False, at_once: int | None = None) -> ocp.Context:
    """`at_once`: bytes that may be on their way to the disk, with no other copy in memory."""
    context = ocp.Context()
    if at_once is not None:
        context.memory.write_concurrent_bytes = at_once
        context.memory.deepcopy_host_arrays = False
    # Made behind, a folder that cannot be made hangs the save for its 20 minutes.
    context.asynchronous.create_directories_asynchronously = False
    context.pytree.loading.partial_load = partial
    return context


def _agree(find: Callable[[], list[int]]) -> list[int]:
    """What the first process finds, on every process."""
    if jax.process_count() == 1:
        return find()
    found = find() if jax.process_index() == 0 else []
    count = int(multihost_utils.broadcast_one_to_all(np.int32(len(found))))
    mine = np.asarray(found if found else [0] * count, np.int32)
    return [int(step) for step in multihost_utils.broadcast_one_to_all(mine)] if count else []


def _quieten_orbax() -> None:
    """Orbax tells every stage of every save; its failures reach us as exceptions anyway."""
    absl = logging.getLogger("absl")
    if _not_from_orbax not in absl.filters:
        absl.addFilter(_not_from_orbax)


def _not_from_orbax(record: logging.LogRecord) -> bool:
    return "/orbax/" not in record.pathname
