"""Batches on the devices one step ahead: the next is drawn and sent while the step runs."""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import jax
from jax.sharding import Mesh

from multimodal.parallel.processes import to_global

HOST = ("keys", "broken", "position")  # what of a batch stays on the host


class Feed:
    """Draws from `streams`, by task, in a thread of its own, so that the device has two batches:
    one that it works on, and the next.

    `ask` for a batch, dispatch the step before it, then `take` it. Nothing is drawn unasked: where
    a run has got to is the number of steps that it took.
    """

    def __init__(self, streams: Mapping[str, Iterator[dict[str, Any]]], mesh: Mesh):
        self._streams, self._mesh = streams, mesh
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="feed")
        self._next: Future | None = None

    def ask(self, task: str) -> None:
        """Begins to draw the next batch of `task`."""
        self._next = self._thread.submit(self._draw, task)

    def take(
        self, running: Any, waiting: AbstractContextManager
    ) -> tuple[dict[str, jax.Array], dict[str, Any]]:
        """The batch asked for, on the devices, and all of it as it was on the host.

        `running` are arrays of the step before: only once they are there is time spent inside
        `waiting`, so that it measures what the devices lose. Raises what the stream raises.
        """
        batch, self._next = self._next, None
        if not batch.done():
            jax.block_until_ready(running)
            with waiting:
                return batch.result()
        return batch.result()

    def close(self) -> None:
        """Ends the thread, and the streams."""
        self._thread.shutdown(cancel_futures=True)
        for stream in self._streams.values():
            stream.close()

    def _draw(self, task: str) -> tuple[dict[str, jax.Array], dict[str, Any]]:
        slots = next(self._streams[task])
        batch = {name: value for name, value in slots.items() if name not in HOST}
        return to_global(batch, self._mesh), slots
