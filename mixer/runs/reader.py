"""A split of a dataset as global batches on the devices."""

import dataclasses
from collections.abc import Callable, Sequence

import grain
from jax.sharding import Mesh, NamedSharding

from mixer import batch as batch_lib
from mixer.batch import Batch
from mixer.data import pipeline, transforms
from mixer.data.blocks import in_blocks
from mixer.data.order import Order
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

    def stage(self) -> bool:
        """Copies what this process is to read, if it is to be copied; whether it is."""
        copy = getattr(self.source, "stage", None)
        if copy is not None:
            copy(_share(self.rows.order, self.rows.rows, self.source))
        return copy is not None

    def batches(self, start: int = 0, stop: int | None = None) -> "Batches":
        """Global batches start ... stop-1; without `stop`, to the end of the first pass."""
        self.stage()
        if stop is None:
            stop = pipeline.steps_per_pass(self.source, self.batch_size)
        host = pipeline.batches(
            self.rows, start=start, stop=stop, threads=self.threads, workers=self.workers
        )
        close = getattr(self.source, "close", lambda: None)
        return Batches(host, sharding.batch_sharding(self.mesh), self.batch_size, close)


class Batches:
    """Iterator of global batches. Threads read from now on, until the context is left."""

    def __init__(
        self,
        host: grain.DatasetIterator,
        place: NamedSharding,
        batch_size: int,
        close: Callable[[], None],
    ):
        self._host, self._place, self._batch_size, self._close = host, place, batch_size, close
        host.start_prefetch()

    def __iter__(self) -> "Batches":
        return self

    def __next__(self) -> Batch:
        return sharding.put(next(self._host), self._place, self._batch_size)

    def __enter__(self) -> "Batches":
        return self

    def __exit__(self, *_) -> None:
        self._host.close()
        self._close()


def open_reader(
    source: Source,
    transform: str,
    image_size: tuple[int, int],
    *,
    batch_size: int,
    seed: int,
    order: Order | None,
    mesh: Mesh,
    threads: int,
    workers: int,
) -> Reader:
    """Puts source, transforms and mesh together.

    Args:
      order: for training: endless, each epoch in an order of its own. None for evaluation: every
        example once, as they are stored, the last batch padded.

    Raises:
      BadInput: a transform that cannot be read or makes images of another size, or no space for
        the copy that the source is to make.
    """
    local = sharding.local_rows(sharding.batch_sharding(mesh), batch_size)
    if check := getattr(source, "check_space", None):
        check(_share(order, local, source))
    source, ahead = in_blocks(source, order, local)
    rows = pipeline.Rows(
        source=source,
        transform=transforms.parse(transform, image_size),
        order=order,
        seed=seed,
        batch_size=batch_size,
        rows=local,
        padding=batch_lib.padding(image_size),
        ahead=ahead,
    )
    return Reader(rows, mesh, threads, workers)


def _share(order: Order | None, rows: Sequence[int], source: Source) -> list[range]:
    """The examples that these rows of the batches hold."""
    return order.share(rows) if order else [range(len(source))]
