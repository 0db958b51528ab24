"""What every training signal looks like to the step that adds them up."""

from typing import NamedTuple, Protocol

import jax

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]


class Vocabulary(NamedTuple):
    """What objectives must know of the model's input: the tokens (`mask_id` is -1 where there is
    none), and the mean and deviation that pixels are normalised by."""

    size: int
    pad_id: int
    mask_id: int
    special: tuple[int, ...]
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)


class Objective(Protocol):
    """One training signal: it sees outputs and batch, never the model.

    `reads` names the entries of the model's outputs that it uses. A `joint` objective compares
    examples with each other, so it is given outputs of the whole batch; any other is a sum over
    examples divided by a count that depends on the batch alone, so microbatches can be added up.

    One that learns from a teacher, the average of the parameters, also has `teacher_sees`, the
    entries of the prepared batch that the teacher is given, and `teacher_reads`, those of its
    outputs that the loss finds in the batch as `teacher/NAME`; the teacher's `weights`, which have
    no batch dimension, it finds among the outputs as `teacher/weights`.
    """

    weight: float
    reads: tuple[str, ...]
    joint: bool

    def prepare(self, batch: Batch, key: jax.Array) -> Batch:
        """Masking, swaps, views: the batch that the model is given. Shapes stay as they are."""
        ...

    def loss(self, outputs: dict, batch: Batch, whole: Batch) -> tuple[jax.Array, Metrics]:
        """The share of `batch` in the loss of the `whole` batch (both are the same, or the first
        is a microbatch of the second), and figures to log, which add up likewise."""
        ...
