"""A split of a dataset as global batches on the devices."""

import dataclasses
from collections.abc import Callable

import grain
from jax.sharding import Mesh

from mixer import batch as batch_lib
from mixer.batch import Batch
from mixer.data import pipeline, sources, transforms
from mixer.data.sources import Source
from mixer.training import sharding


@dataclasses.dataclass(frozen=True)
class Reader:
    """See `open_reader`."""

    rows: pipeline.Rows
    mesh: Mesh
    threads: int
    workers: int

    @property
    def source(self) -> Source:
        """What is read."""
        return self.rows.source

    @property
    def batch_size(self) -> int:
        """Rows of a global batch."""
        return self.rows.batch_size

    def put(self, rows: Batch) -> Batch:
        """This process's rows of a global batch -> global arrays."""
        return sharding.put(rows, sharding.batch_sharding(self.mesh), self.batch_size)

    def batches(self, start: int = 0, stop: int | None = None) -> "Batches":
        """Global batches start ... stop-1; without `stop`, to the end of the first pass."""
        if stop is None:
            stop = pipeline.steps_per_pass(self.source, self.batch_size)
        host = pipeline.batches(
            self.rows, start=start, stop=stop, threads=self.threads, workers=self.workers
        )
        return Batches(host, self.put)


class Batches:
    """Iterator of global batches. Threads read from now on, until the context is left.

    Attributes:
      skipped: unusable examples in place of which others stand in this process's rows so far.
    """

    def __init__(self, host: grain.DatasetIterator, put: Callable[[Batch], Batch]):
        self._host, self._put = host, put
        self.skipped = 0
        host.start_prefetch()

    def __iter__(self) -> "Batches":
        return self

    def __next__(self) -> Batch:
        rows = next(self._host)
        self.skipped += int(rows.pop("skipped").sum())
        return self._put(rows)

    def __enter__(self) -> "Batches":
        return self

    def __exit__(self, *_) -> None:
        self._host.close()


def open_reader(
    source: Source,
    transform: str,
    image_size: tuple[int, int],
    *,
    batch_size: int,
    seed: int,
    shuffle: bool,
    mesh: Mesh,
    threads: int,
    workers: int,
    fast_decode: bool = False,
    skip_bad: bool = False,
) -> Reader:
    """Puts source, transforms and mesh together.

    Args:
      shuffle: True for training: endless, each epoch in an order of its own. False for
        evaluation: every example once, in order, the last batch padded.
      fast_decode, skip_bad: see `pipeline.Rows`.

    Raises:
      BadInput: a transform that cannot be read or makes images of another size.
    """
    rows = pipeline.Rows(
        source=source,
        transform=transforms.parse(transform, image_size),
        order=pipeline.Order(len(source), seed) if shuffle else None,
        seed=seed,
        batch_size=batch_size,
        rows=sharding.local_rows(sharding.batch_sharding(mesh), batch_size),
        padding=batch_lib.padding(image_size, sources.max_labels(source)),
        fast_decode=fast_decode,
        skip_bad=skip_bad,
    )
    return Reader(rows, mesh, threads, workers)
