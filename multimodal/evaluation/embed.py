"""Embeds a whole data set: sharded over the devices, each tower compiled once, masked at the end.

Every process reads its own part of each batch and holds all the embeddings afterwards.
"""

import functools
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from multimodal import config
from multimodal.data.pipeline import evaluation_batches
from multimodal.data.tokenizers import Tokenizer, load_tokenizer, tokenize
from multimodal.errors import UserError
from multimodal.models.build import Model, Params, nested
from multimodal.parallel.rules import BATCH, batch_sharding, replicated
from multimodal.preprocessing import Preprocessing

log = logging.getLogger(__name__)

_FACTS = ("texts", "languages", "label")


@dataclass(frozen=True)
class Embedder:
    """A model with its parameters, as evaluators use it.

    `batch_size` is rounded up to what the mesh divides; results do not depend on it. `tokenizer`
    stands for the one that `preprocessing` names.
    """

    model: Model
    params: Params
    preprocessing: Preprocessing
    mesh: Mesh
    batch_size: int
    tokenizer: Tokenizer | None = None

    @property
    def rows(self) -> int:
        """Rows of one batch over all processes."""
        shards = np.prod([self.mesh.shape[axis] for axis in BATCH], dtype=int)
        return int(-(-self.batch_size // shards) * shards)

    def images(
        self,
        data: config.Data,
        extra: Sequence[str] = (),
        data_dir: str = "",
        output: str = "image",
    ) -> tuple[np.ndarray, list[dict[str, Any]], int]:
        """Embeddings [examples, embed] of every readable example in the order of the source, or a
        classifier's `class_logits` [examples, classes], by the name of the `output`; one
        dictionary each of `position`, `texts`, `languages`, `label`, `extra`; and how many were
        broken."""
        start, stop = self._own_rows()
        mine: dict[int, dict[str, Any]] = {}
        broken: dict[int, tuple[str, str]] = {}  # by position: several rows may have one key

        def pictures() -> Iterator[Any]:
            for batch in evaluation_batches(
                data,
                self.preprocessing,
                batch_size=self.rows,
                process_index=start // (stop - start),
                process_count=self.rows // (stop - start),
                extra=extra,
                data_dir=data_dir,
            ):
                slots = [s for s in np.flatnonzero(~batch["valid"]) if batch["keys"][s]]
                broken.update(zip(batch["position"][slots].tolist(), batch["broken"], strict=True))
                for slot in np.flatnonzero(batch["valid"]).tolist():
                    mine[int(batch["position"][slot])] = _facts(batch, slot, extra)
                yield batch["image" if "image" in data.fields else "image_features"]

        embeddings = self.encode(output, pictures())
        parts = _gather([sorted(mine.items()), sorted(broken.items())])
        examples = dict(item for part, _ in parts for item in part)
        broken = dict(item for _, part in parts for item in part)
        told = ""
        if broken:
            key, reason = next(iter(broken.values()))
            told = f"{key}: {reason}"
        if not examples:
            where = getattr(data.source, "path", data.source)
            raise UserError(f"evaluation: no readable example in {where}; {told}")
        if broken:
            log.warning("left out %d broken examples, such as %s", len(broken), told)
        order = sorted(examples)
        return embeddings[order], [{"position": i} | examples[i] for i in order], len(broken)

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Embeddings [texts, embed]; equal texts are embedded once, so theirs are equal too."""
        different, where = np.unique(np.array(texts, dtype=object), return_inverse=True)
        p = self.preprocessing
        tokenizer = self.tokenizer or load_tokenizer(p.tokenizer, p.pad_id)
        start, stop = self._own_rows()

        def ids() -> Iterator[np.ndarray]:
            for first in range(0, len(different), self.rows):
                rows = different[first + start : min(first + stop, first + self.rows)].tolist()
                rows += [""] * (stop - start - len(rows))
                yield tokenize(rows, p, tokenizer)

        return self.encode("text", ids())[where]

    def encode(self, output: str, batches: Iterable[Any]) -> np.ndarray:
        """[batches * rows, embed] on every process, of this process's parts of the batches: what a
        tower reads, `rows` examples each."""
        sharding = batch_sharding(self.mesh)
        start, _ = self._own_rows()
        done: list[Any] = []

        def place(local: np.ndarray) -> jax.Array:
            # The rows that a device asks for are among those that this process has read.
            part = functools.partial(_part, local, start)
            return jax.make_array_from_callback((self.rows, *local.shape[1:]), sharding, part)

        with jax.set_mesh(self.mesh):
            for local in batches:
                inputs = jax.tree.map(place, local)
                done.append(_encode(self.model.graph, self.params, inputs, output, self.mesh))
                if len(done) > 1:  # one batch behind, so that the device never waits for the host
                    done[-2] = np.asarray(done[-2])
        return np.concatenate([np.asarray(x) for x in done])

    def _own_rows(self) -> tuple[int, int]:
        """The part of a batch that the devices of this process hold."""
        held = batch_sharding(self.mesh).addressable_devices_indices_map((self.rows,)).values()
        spans = {index[0].indices(self.rows)[:2] for index in held}
        start, stop = min(a for a, _ in spans), max(b for _, b in spans)
        if sum(b - a for a, b in spans) != stop - start or start % (stop - start):
            return 0, self.rows  # scattered: read the whole
        return start, stop


@functools.partial(jax.jit, static_argnums=(0, 3, 4))
def _encode(graph: nnx.GraphDef, params: Params, inputs: Any, output: str, mesh: Mesh) -> jax.Array:
    model = nnx.merge(graph, nested(params))
    if output == "class_logits":
        values = model({"image": inputs})[output]
    else:
        values = model.encode(output, inputs)
    return jax.lax.with_sharding_constraint(values.astype(jnp.float32), replicated(mesh))


def _part(local: np.ndarray, start: int, index: tuple[slice, ...]) -> np.ndarray:
    first, last = index[0].start or 0, index[0].stop
    return local[first - start : None if last is None else last - start]


def _facts(batch: dict[str, Any], slot: int, extra: Sequence[str]) -> dict[str, Any]:
    facts = {name: batch[name][slot] for name in (*_FACTS, *extra) if name in batch}
    return {name: v.item() if isinstance(v, np.generic) else v for name, v in facts.items()}


def _gather(value: Any) -> list[Any]:
    """What every process passed in, as JSON carries it, on every process."""
    if jax.process_count() == 1:
        return [value]
    data = np.frombuffer(json.dumps(value).encode(), np.uint8)
    lengths = multihost_utils.process_allgather(np.array([len(data)])).ravel()
    padded = np.zeros(lengths.max(), np.uint8)
    padded[: len(data)] = data
    rows = multihost_utils.process_allgather(padded).reshape(len(lengths), -1)
    return [json.loads(bytes(row[:n])) for row, n in zip(rows, lengths, strict=True)]
