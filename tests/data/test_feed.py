"""One batch ahead and no more, on the devices while the step before it runs."""

import contextlib
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multimodal.data.feed import Feed
from multimodal.parallel.mesh import make_mesh

LONG = 60  # seconds; reached only by what is broken


class Stream:
    """Counts its batches; each may be held back by an event."""

    def __init__(self, held=()):
        self.drawn, self.held, self.closed = 0, dict(held), False
        self.reached = [threading.Event() for _ in range(9)]

    def __next__(self):
        number, self.drawn = self.drawn, self.drawn + 1
        self.reached[number].set()
        if number in self.held and not self.held[number].wait(LONG):
            raise AssertionError("held back for ever")
        image = np.full((8, 2, 2, 3), number, np.uint8)
        host = {"keys": [str(number)] * 8, "broken": [], "position": np.arange(8) + 8 * number}
        return {"image": {"patches": image}, "valid": np.ones(8, bool)} | host

    def close(self):
        self.closed = True


@pytest.fixture(scope="module")
def mesh():
    return make_mesh({"data": 8, "fsdp": 1, "tensor": 1, "sequence": 1}, jax.devices())


def waits():
    entered = []

    @contextlib.contextmanager
    def waiting():
        entered.append(True)
        yield

    return entered, waiting


def test_batches_come_in_order_as_bytes_over_the_mesh(mesh):
    one, two = Stream(), Stream()
    feed = Feed({"one": one, "two": two}, mesh)
    seen = []
    for task in ("one", "two", "one", "one"):
        feed.ask(task)
        batch, slots = feed.take({}, contextlib.nullcontext())
        assert batch.keys() == {"image", "valid"}
        image = batch["image"]["patches"]
        assert image.dtype == jnp.uint8
        assert {s.data.shape for s in image.addressable_shards} == {(1, 2, 2, 3)}
        assert slots["keys"] == [str(image[0, 0, 0, 0])] * 8
        seen.append((task, int(image[-1, 0, 0, 0]), int(slots["position"][0])))
    assert seen == [("one", 0, 0), ("two", 0, 0), ("one", 1, 8), ("one", 2, 16)]
    feed.close()
    assert one.closed and two.closed


def test_a_batch_is_drawn_while_the_step_runs_and_none_unasked(mesh):
    stream = Stream()
    feed = Feed({"a": stream}, mesh)
    feed.ask("a")
    assert stream.reached[0].wait(LONG)  # nobody has taken it yet
    feed.take({}, contextlib.nullcontext())
    assert not stream.reached[1].wait(0.05)
    feed.ask("a")
    assert stream.reached[1].wait(LONG)
    feed.close()
    assert stream.drawn == 2


class Running:
    """Stands for an array of the step before; says when it was waited for."""

    def __init__(self, then):
        self.then = then

    def block_until_ready(self):
        self.then()
        return self


def test_only_what_the_devices_lose_is_waiting(mesh):
    events = {1: threading.Event(), 2: threading.Event()}
    feed = Feed({"a": Stream(events)}, mesh)
    entered, waiting = waits()
    feed.ask("a")
    feed._next.result(LONG)
    feed.take(Running(lambda: pytest.fail("waited for a step though a batch was there")), waiting())
    assert not entered

    feed.ask("a")  # it comes only after the step has ended: lost from then on
    order = []

    @contextlib.contextmanager
    def lost():
        order.append("waiting")
        events[1].set()
        yield

    feed.take(Running(lambda: order.append("step ended")), lost())
    assert order == ["step ended", "waiting"]
    feed.close()


def test_what_is_wrong_with_the_data_is_raised_where_the_batch_is_taken(mesh):
    class Broken(Stream):
        def __next__(self):
            raise ValueError("a shard is gone")

    feed = Feed({"a": Broken()}, mesh)
    feed.ask("a")
    with pytest.raises(ValueError, match="a shard is gone"):
        feed.take({}, contextlib.nullcontext())
    feed.close()
