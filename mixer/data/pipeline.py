"""Makes batches as a pure function of (seed, step): no state to save, any step can be remade.

Row r of global batch t is example number g = t * batch_size + r of an endless sequence: epoch
g // N, place g % N in that epoch's permutation. Its pixels depend only on the image and a generator
keyed by (seed, g), not on threads, worker processes or hosts.
"""

import dataclasses
import multiprocessing
import os
import threading
from collections.abc import Sequence
from typing import Any

import grain
import numpy as np
from absl import flags

from mixer import errors, signals
from mixer.data.decode import UPRIGHT, Decoding, Encoded, opened
from mixer.data.order import Order
from mixer.data.sources import Source, label_kinds
from mixer.data.transforms import Transform

_MOST_THREADS = 16  # by default
# ArrayRecord raises RuntimeError for a damaged record.
_UNREADABLE = (ValueError, OSError, RuntimeError)
# This many unusable examples in a row are not a coincidence.
_MOST_SKIPPED = 100


class BadExample(errors.Failure):
    """An example that cannot be read or has the wrong size or label; the message names it."""


@dataclasses.dataclass(frozen=True)
class Rows:
    """Makes one row from its number; picklable, for Grain's threads and processes.

    Attributes:
      source, transform: what to read and how to transform it.
      order: example counter -> index, for training; None for evaluation, which reads 0, 1, 2 ...
        once and fills up the last batch with `padding`.
      rows: the rows of a global batch that this process makes.
      decoding: how to decode image files.
      skip_bad: what to do with an example that cannot be read. False: raise `BadExample`. True: in
        training use the next one in storage order, in evaluation leave it out; the row's `skipped`
        counts them.
      ahead: with each row, announce the row `ahead` numbers later to `source.will_read`, so that it
        can be prefetched; 0: do not.
    """

    source: Source
    transform: Transform
    order: Order | None
    seed: int
    batch_size: int
    rows: Sequence[int]
    padding: dict[str, np.ndarray]
    decoding: Decoding = UPRIGHT
    skip_bad: bool = False
    ahead: int = 0

    def find(self, number: int) -> tuple[int, int | None]:
        """Example counter and index of a row; in evaluation no index beyond the end."""
        step, place = divmod(number, len(self.rows))
        count = step * self.batch_size + self.rows[place]
        if self.order is None:
            return count, count if count < len(self.source) else None
        return count, self.order[count]

    def __call__(self, number: int) -> dict[str, np.ndarray]:
        count, index = self.find(number)
        if index is None:
            return self.padding | {"skipped": np.int32(0)}
        row = self._first_usable(index, count)
        if self.ahead and (later := self.find(number + self.ahead)[1]) is not None:
            self.source.will_read(later)
        return row

    def _first_usable(self, index: int, count: int) -> dict[str, np.ndarray]:
        for skipped in range(_MOST_SKIPPED):
            try:
                return self._row(index, count) | {"skipped": np.int32(skipped)}
            except _UNREADABLE as error:
                bad = BadExample(f"{self.where(index)}: {error}")
                if not self.skip_bad:
                    fix = "Replace it, or skip unreadable examples: --config.input.on_bad=skip"
                    raise BadExample(f"{bad}. {fix}") from error
            if self.order is None:
                return self.padding | {"skipped": np.int32(1)}
            index = self.order.after(index)
        raise BadExample(f"{_MOST_SKIPPED} unusable examples in a row, the last: {bad}")

    def _row(self, index: int, count: int) -> dict[str, np.ndarray]:
        rng = np.random.Generator(np.random.Philox(key=[self.seed, 0], counter=[0, 0, 0, count]))
        example = self.source[index]
        try:
            opened = self.opened(example["image"], count)
        except TypeError as error:  # all examples have this type: do not skip
            raise BadExample(f"{self.where(index)}: {error}") from error
        image = np.ascontiguousarray(self.transform(opened, rng))
        expected = self.padding["image"].shape
        if image.shape != expected:
            raise ValueError(f"the transforms made {image.shape}, expected {expected}")
        try:
            kind = label_kinds.of(self.source).kind
            classes = len(self.source.classes)
            label = label_row(example["label"], self.padding["label"], classes, kind)
        except ValueError as error:  # wrong, not unreadable: do not skip
            raise BadExample(f"{self.where(index)}: {error}") from error
        return {"image": image, "label": label, "mask": np.bool_(True)}

    def unusable(self, index: int) -> str:
        """Why an example cannot be read; "" if it can."""
        try:
            self._row(index, 0)
        except _UNREADABLE as error:
            return str(error) or type(error).__name__
        return ""

    def opened(self, image: bytes | np.ndarray, count: int) -> Encoded | np.ndarray:
        """Prepares a source's image for the first transform, `count` examples into the run.

        Unless damaged images are skipped, training checks for damage only in the first pass.
        """
        seen = self.order is not None and count >= self.order.first_pass
        channels = self.padding["image"].shape[2]
        return opened(image, self.decoding, channels, to_the_end=self.skip_bad or not seen)

    def where(self, index: int) -> str:
        """Names an example, even one that cannot be read."""
        try:
            return self.source.where(index)
        except _UNREADABLE:  # the record itself is unreadable
            return f"dataset {self.source.name}, split {self.source.split}, example {index}"


def label_row(label: Any, padding: np.ndarray, num_classes: int, kind: str = "class") -> np.ndarray:
    """The label as stored in a batch, shaped like `padding`.

    Args:
      kind: of the source's labels; see label_kinds.py.

    Returns:
      int32 [] or [L], filled up with -1; or float32 [K] if its labels are vectors.

    Raises:
      ValueError: more labels than L, one that is not a class, or not such a vector.
    """
    if kind in label_kinds.VECTORS:
        return label_kinds.vector(label, kind, num_classes)
    given = np.asarray(label)
    if given.ndim != padding.ndim or (given.size and given.dtype.kind not in "biu"):
        expected = "a sequence of class numbers" if padding.ndim else "one class number"
        raise ValueError(f"its label is {label!r}: expected {expected}")
    if given.size > padding.size:
        raise ValueError(f"it has {given.size} labels: expected {padding.size} at most")
    strange = given[(given < 0) | (given >= num_classes)]
    if strange.size:
        raise ValueError(f"label {strange[0]}: expected 0 to {num_classes - 1}")
    row = np.full(padding.shape, -1, np.int32)
    row.flat[: given.size] = given
    return row


def steps_per_pass(source: Source, batch_size: int) -> int:
    """The number of batches that contain every example once, the last one padded."""
    return -(-len(source) // batch_size)


def reading_threads(asked: int, workers: int) -> int:
    """The number of threads of a process that reads.

    Args:
      asked: 0: one per core, at most 16, or one in each worker process.
      workers: number of worker processes; 0: the threads are of this process.
    """
    return asked or (1 if workers else min(os.cpu_count() or 1, _MOST_THREADS))


def start_worker(index: int, count: int) -> None:
    """What each worker process of Grain calls first, so that it ends with its parent."""
    signals.leave_to_parent(*signals.STOPS)  # the parent saves first
    # Nothing else would end a worker whose parent was killed.
    threading.Thread(target=_follow, args=(multiprocessing.parent_process(),), daemon=True).start()


def _follow(parent) -> None:
    parent.join()
    os._exit(1)


def batches(
    make_row: Rows, *, start: int, stop: int, threads: int, workers: int, size: int | None = None
) -> grain.DatasetIterator:
    """Iterates over this process's rows of the global batches start ... stop-1.

    Args:
      make_row: makes a row.
      start, stop: global batch numbers; a later start costs nothing.
      threads: see `reading_threads`.
      workers: worker processes; 0: read with threads in this process.
      size: rows of what is returned at a time; by default this process's rows of a global batch.

    Returns:
      An iterator of dicts of arrays [rows, ...]: those of `mixer.batch`, and `skipped`. Threads
      start reading at `start_prefetch()`, worker processes at the first `next`; `close()` ends
      both.
    """
    per_batch = len(make_row.rows)
    rows = grain.MapDataset.range(start * per_batch, stop * per_batch).map(make_row)
    size, threads = size or per_batch, reading_threads(threads, workers)
    if workers:
        if not flags.FLAGS.is_parsed():
            # Grain's workers read absl flags, which only absl's entry point parses.
            flags.FLAGS.mark_as_parsed()
        # Each of n workers makes every n-th batch; each of its threads makes and buffers one batch.
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
        processes = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=1)
        dataset = rows.batch(size).to_iter_dataset(options)
        return iter(dataset.mp_prefetch(processes, worker_init_fn=start_worker))
    # All threads work on the same batch and the one after it.
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(size, threads))
    batched = rows.to_iter_dataset(options).batch(size)
    dataset = grain.experimental.ThreadPrefetchIterDataset(batched, prefetch_buffer_size=1)
    return iter(dataset)
