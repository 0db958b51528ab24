"""From a source of records to batches of arrays, read ahead.

A global position alone decides which record is read, which of its captions is taken and how it is
augmented. Batch k covers the positions k * batch_size and up; each process takes its slice of them.
So batches do not depend on the number of processes or loader workers, and the number of the next
batch is all that must be remembered to go on.
"""

import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence

import grain
from absl import flags

from multimodal import config
from multimodal.data import features, transforms
from multimodal.data.check import FIELDS
from multimodal.data.examples import Batch, Collate, Load
from multimodal.data.order import Order
from multimodal.data.record import Source
from multimodal.data.sources import open_data
from multimodal.data.tokenizers import BpeDropout, load_tokenizer
from multimodal.errors import UserError
from multimodal.preprocessing import Preprocessing


class Batches(Iterator[Batch]):
    """An iterator over batches, read ahead in the background until `close` or its end."""

    def __init__(self, iterator: grain.DatasetIterator):
        self._iterator: grain.DatasetIterator | None = iterator
        iterator.start_prefetch()

    def __next__(self) -> Batch:
        if self._iterator is None:
            raise StopIteration
        try:
            return next(self._iterator)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Ends the threads and worker processes; may be called more than once."""
        # Let go of it too: collected as the interpreter ends, it would complain.
        iterator, self._iterator = self._iterator, None
        if iterator is not None:
            iterator.close()

    def __enter__(self) -> "Batches":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_ENDLESS = 1 << 62
_READ_AHEAD = 2  # batches
_TRIED = 64  # records


def batches(
    data: config.Data,
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    seed: int,
    start_batch: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    classes: int | None = None,
    data_dir: str = "",
) -> Batches:
    """Endless training batches from number `start_batch` on; `close()` the iterator when done.

    A batch holds this process's part, batch_size / process_count examples: `image` uint8
    [batch, size, size, 3] (see `patches.stack` for NaFlex), `text` int32 [batch, length] (with
    `data.texts` above 1 [batch, texts, length]), `label` int32 [batch], `image_features` float32
    [batch, width] (each where `data.fields` names it),
    `valid` bool [batch], `position` int64 [batch]; and for the host alone `keys`, a list of str,
    and `broken`, a list of (key, reason). A broken record is a slot of zeros with valid False, so
    that nothing shifts; so is one whose label is none of the `classes` that the model has.

    Raises UserError for settings or sources that cannot work, before the first batch.
    """
    load, collate = reader(
        data,
        preprocessing,
        batch_size=batch_size,
        seed=seed,
        process_index=process_index,
        process_count=process_count,
        classes=classes,
        data_dir=data_dir,
    )
    _check_readable(load)
    indices = range(start_batch * load.per_process, _ENDLESS)
    return _iterate(load, collate, indices, load.per_process, data.workers)


def reader(
    data: config.Data,
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    seed: int,
    process_index: int = 0,
    process_count: int = 1,
    classes: int | None = None,
    data_dir: str = "",
) -> tuple[Load, Collate]:
    """What `batches` does, without the threads: one function makes an example of its number in this
    process, the other makes a batch of examples."""
    per_process = _per_process(batch_size, process_count)
    source, fields = open_data(data, data_dir), dict(data.fields)
    _check_shards(source, process_count)
    load = Load(
        source=source,
        fields=fields,
        ops=transforms.build(data.augment, preprocessing.image_size, "data.augment"),
        preprocessing=preprocessing,
        batch_size=batch_size,
        per_process=per_process,
        process_index=process_index,
        seed=seed,
        order=_order(data, source, seed),
        templates=data.templates,
        languages=data.languages,
        tags=data.tags,
        texts=data.texts,
        width=features.width_of(source, fields),
        classes=classes,
    )
    tokenizer = load_tokenizer(preprocessing.tokenizer, preprocessing.pad_id)
    dropout = BpeDropout(tokenizer, data.bpe_dropout, seed) if data.bpe_dropout else None
    return load, Collate(
        fields,
        preprocessing,
        tokenizer,
        width=load.width,
        bpe_dropout=dropout,
        texts=data.texts,
    )


def evaluation_batches(
    data: config.Data,
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
    extra: Sequence[str] = (),
    data_dir: str = "",
) -> Batches:
    """Every example once, in the order of the source, without augmentation.

    As `batches`, but with `texts`, a list of all captions of each example, in place of `text`, and
    `languages`, the language of each ("" where the record names none); and for each field of the
    record in `extra` a list of its values (None where there is none).
    The last batch is filled up with slots where valid is False: all batches have one shape, and all
    processes see the same number of them.
    """
    per_process = _per_process(batch_size, process_count)
    reserved = {*FIELDS, "texts", "languages", "valid", "position", "keys", "broken"}
    for name in extra:
        if name in reserved - {"label"}:
            raise UserError(f"data: {name!r} is not a name for an extra field")
    source, fields = open_data(data, data_dir, extra), dict(data.fields)
    load = Load(
        source=source,
        fields=fields,
        ops=(),
        preprocessing=preprocessing,
        batch_size=batch_size,
        per_process=per_process,
        process_index=process_index,
        seed=None,
        templates=data.templates,
        languages=data.languages,
        extra=tuple(name for name in extra if name not in data.fields),
        width=features.width_of(source, fields),
    )
    collate = Collate(fields, preprocessing, None, load.extra, load.width)
    indices = range(-(-len(source) // batch_size) * per_process)
    return _iterate(load, collate, indices, per_process, data.workers)


def _iterate(
    load: Load, collate: Collate, indices: range, per_process: int, workers: int
) -> Batches:
    dataset = grain.MapDataset.range(indices.start, indices.stop).map(load)
    buffer = min(4 * per_process, 512)
    examples = dataset.to_iter_dataset(
        grain.ReadOptions(num_threads=4, prefetch_buffer_size=buffer)
    )
    if workers:
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # Grain reads flags, also outside of absl.app.run
        # Through pipes below this size: faster than shared memory, and a kill leaves none behind.
        by_pipe = grain.experimental.DatasetOptions(min_shm_size=1 << 24)
        examples = grain.experimental.WithOptionsIterDataset(examples, by_pipe)
        options = grain.MultiprocessingOptions(workers, per_worker_buffer_size=16)
        examples = examples.mp_prefetch(options, worker_init_fn=_end_with_parent)
    whole = examples.batch(per_process, batch_fn=collate)
    ahead = grain.experimental.ThreadPrefetchIterDataset(whole, prefetch_buffer_size=_READ_AHEAD)
    return Batches(iter(ahead))


def _end_with_parent(worker: int, workers: int) -> None:
    """A worker whose trainer was killed would wait for it for ever, holding its memory."""

    def watch() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="end-with-parent").start()


def _per_process(batch_size: int, process_count: int) -> int:
    if batch_size % process_count:
        raise UserError(f"batch_size={batch_size} does not divide among {process_count} processes")
    return batch_size // process_count


def _order(data: config.Data, source: Source, seed: int) -> Order:
    return Order(
        getattr(source, "sizes", (len(source),)),
        getattr(source, "weights", (1.0,)),
        seed if data.shuffle else None,
        data.group,
        data.window,
        data.sampling == "replacement",
    )


def _check_shards(source: Source, process_count: int) -> None:
    """As many parts as processes, so that each could be given files of its own."""
    if source.shards < process_count:
        raise UserError(
            f"data: shards={source.shards} is below processes={process_count}; write the data to "
            f"at least {process_count} files"
        )


def _check_readable(load: Load) -> None:
    """That nothing at all can be used is known before a model is compiled for it."""
    for index in range(_TRIED):
        example = load(index)
        if "broken" not in example:
            return
    raise UserError(
        f"data: all of {_TRIED} records drawn are broken; {example['key']}: {example['broken']}"
    )
