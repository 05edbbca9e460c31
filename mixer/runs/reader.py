"""Reads a split of a dataset as global batches on the devices."""

import dataclasses
import gc
from collections.abc import Callable, Mapping, Sequence

import grain
import numpy as np
from jax.sharding import Mesh

from mixer import batch as batch_lib
from mixer import errors
from mixer.batch import Batch
from mixer.data import five_crops, pipeline, sources, transforms
from mixer.data.decode import UPRIGHT, Decoding
from mixer.data.order import Blocks, Order
from mixer.data.row_group_order import RowGroups
from mixer.data.shares import ByClass
from mixer.data.sources import Source, splits
from mixer.data.sources.blocks import in_blocks
from mixer.hosts import exchange
from mixer.training import meshes

# A split of fewer images is probably a mistake.
_FEW = 10


@dataclasses.dataclass(frozen=True)
class Reader:
    """See `open_reader`."""

    rows: pipeline.Rows
    mesh: Mesh
    threads: int
    workers: int

    @property
    def source(self) -> Source:
        """The examples."""
        return self.rows.source

    @property
    def batch_size(self) -> int:
        """Examples in a global batch."""
        return self.rows.batch_size

    @property
    def second_epoch(self) -> int:
        """A batch after the first pass, which also checks each file for damage."""
        return -(-self.rows.order.first_pass // self.batch_size) + 1

    def in_five_crops(self, transform: str) -> "Reader":
        """Reads five crops of each image, one below the other; `transform` is this reader's text.

        Raises:
          BadInput: see `five_crops.of`.
        """
        rows = self.rows
        padding = rows.padding | {"image": np.concatenate([rows.padding["image"]] * 5)}
        crops = five_crops.of(rows.transform, transform)
        return dataclasses.replace(
            self, rows=dataclasses.replace(rows, transform=crops, padding=padding)
        )

    def put(self, rows: Batch) -> Batch:
        """This process's rows of a global batch -> global arrays."""
        return meshes.put(rows, meshes.batch_sharding(self.mesh), self.batch_size)

    def stage(self) -> bool:
        """Copies this process's share of a staged source; False if the source is not staged."""
        copy = getattr(self.source, "stage", None)
        if copy is not None:
            copy(_share(self.rows.order, self.rows.rows, self.source))
        return copy is not None

    def absent(self) -> str | None:
        """Says which files do not exist, as far as the source knows; None if they are skipped."""
        for source in () if self.rows.skip_bad else sources.parts(self.source):
            if gone := getattr(source, "absent", list)():
                return (
                    f"{source.name} {source.split}: {len(gone):,} files do not exist: "
                    f"{errors.shown(gone)}. Mend the paths, or skip such examples: "
                    f"--config.input.on_bad=skip"
                )
        return None

    def try_first(self) -> None:
        """Reads the first batch, unless the source must be copied first.

        Raises:
          BadExample: one of its examples cannot be read.
        """
        if not hasattr(self.source, "stage"):
            # No worker processes: starting them would take longer.
            with dataclasses.replace(self, workers=0).batches(0, 1) as batches:
                next(batches)

    def batches(self, start: int = 0, stop: int | None = None) -> "Batches":
        """Global batches start, ..., stop - 1; without `stop`, to the end of the first pass."""
        self.stage()
        if stop is None:
            stop = pipeline.steps_per_pass(self.source, self.batch_size)
        host = pipeline.batches(
            self.rows, start=start, stop=stop, threads=self.threads, workers=self.workers
        )
        return Batches(host, self.put, self._close, self.rows.skip_bad)

    def _close(self) -> None:
        getattr(self.source, "close", lambda: None)()
        if self.workers:
            # Grain's iterators and their last batches refer to each other. Such cycles are not
            # collected when a process ends: the workers' shared memory would be left behind.
            gc.collect()


class Batches:
    """Iterator of global batches. Threads read ahead from its creation to the end of the context.

    Attributes:
      skipped: how many unusable examples were replaced in this process's rows so far.
    """

    def __init__(
        self,
        host: grain.DatasetIterator,
        put: Callable[[Batch], Batch],
        close: Callable[[], None],
        skips_bad: bool,
    ):
        self._host: grain.DatasetIterator | None = host
        self._put, self._close, self._skips_bad = put, close, skips_bad
        self.skipped = 0
        host.start_prefetch()

    def __iter__(self) -> "Batches":
        return self

    def __next__(self) -> Batch:
        rows = next(self._host)
        self.skipped += int(rows.pop("skipped").sum())
        return self._put(rows)

    def skipped_by_all(self) -> int:
        """`skipped` summed over all processes, each of which must call this."""
        return exchange.sum_over_processes(self.skipped) if self._skips_bad else 0

    def __enter__(self) -> "Batches":
        return self

    def __exit__(self, *_) -> None:
        self._host.close()
        self._host = None
        self._close()


def fingerprints(
    readers: Mapping[str, Sequence[Reader]],
) -> dict[str, list[tuple[str, str, int, str]]]:
    """(dataset, split, size, `fingerprint`) of each reader, by the keys of `readers`."""
    return {
        name: [
            (source.name, source.split, len(source), sources.fingerprint(source))
            for source in (reader.source for reader in several)
        ]
        for name, several in readers.items()
    }


def print_sources(
    readers: Mapping[str, Sequence[Reader]], measured: Mapping[str, Sequence[Reader]] | None = None
) -> None:
    """Prints a summary of each source, and the subfolders of image folders that nothing reads.

    Args:
      readers: {use: readers}; "training" has the training images.
      measured: {use: readers} of images that should not be trained on.
    """
    beside = {}
    for name, several in readers.items():
        for source in (reader.source for reader in several):
            few = f"; fewer than {_FEW} images mean little" if len(source) < _FEW else ""
            print(f"{name}: {sources.summary(source)}{few}", flush=True)
            for part in sources.parts(source):
                if (folders := getattr(part, "beside", None)) is not None:
                    beside.setdefault(part.name, []).append(set(folders))
    for order in (reader.rows.order for reader in readers.get("training", ())):
        if isinstance(order, ByClass):
            print(f"training: {order.summary()}", flush=True)
    for training in readers["training"] if measured else ():
        _warn_of_overlap(training, measured)
        _warn_of_share(training)
    for name, several in beside.items():
        if unread := sorted(set.intersection(*several)):
            print(f"not read: {', '.join(f'{folder}/' for folder in unread)} of {name}", flush=True)


def _warn_of_share(training: Reader) -> None:
    """Warns if this host reads much more of the data than its share of the batch; names the fix."""
    order, rows = training.rows.order, training.rows.rows
    if not isinstance(order, Blocks | RowGroups):
        return
    read = order.read_by(rows)
    share = len(rows) / training.batch_size
    if read > 1.5 * share:
        devices = training.mesh.shape["data"] * training.mesh.shape["fsdp"]
        print(
            f"warning: this host makes {share:.0%} of each batch and reads {read:.0%} of the data: "
            f"lanes={devices} in config.input.shuffle, one per device, makes them equal"
        )


def _warn_of_overlap(training: Reader, measured: Mapping[str, Sequence[Reader]]) -> None:
    """Warns if images are both trained on and measured, with their number.

    An evaluator with train in its name, as in `configs/imagenet.py`, measures them on purpose.
    """
    for name, several in measured.items():
        for source in (reader.source for reader in several):
            for trained_on in sources.parts(training.source):
                if source.name != trained_on.name or splits.resembles(name) == splits.TRAIN:
                    continue
                if both := shared(source, trained_on):
                    print(
                        f"warning: {both:,} of the {len(source):,} images of {name} are trained on"
                    )


def shared(measured: Source, trained_on: Source) -> int:
    """The number of images in both parts of one dataset; 0 if the images have no names."""
    if hasattr(measured, "files"):
        files = {file for file, _ in measured.files}  # fewer than those that are trained on
        return sum(file in files for file, _ in trained_on.files)
    if not hasattr(measured, "ranges"):
        return 0
    own = {}
    for file, records in measured.ranges:
        own.setdefault(file, []).append(records)
    return sum(
        len(range(max(one.start, other.start), min(one.stop, other.stop)))
        for file, one in trained_on.ranges
        for other in own.get(file, ())
    )


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
    channels: int = 3,
    decoding: Decoding = UPRIGHT,
    skip_bad: bool = False,
) -> Reader:
    """Builds a reader of `source` with a transform, for a mesh.

    Args:
      order: for training: endless, each epoch in its own order. None for evaluation: every example
        once, in stored order, the last batch padded.
      channels: C, of the model's images.
      decoding, skip_bad: see `pipeline.Rows`.

    Raises:
      BadInput: a transform that cannot be parsed or makes images of another size, or no space for
        the copy of a staged source.
    """
    local = meshes.local_rows(meshes.batch_sharding(mesh), batch_size)
    if check := getattr(source, "check_space", None):
        check(_share(order, local, source))
    labels = sources.label_kinds.of(source)
    source, ahead = in_blocks(source, order, local)
    rows = pipeline.Rows(
        source=source,
        transform=transforms.parse(transform, image_size, channels),
        order=order,
        seed=seed,
        batch_size=batch_size,
        rows=local,
        padding=batch_lib.padding(
            image_size, labels.most, len(source.classes) if labels.are_vectors else 0, channels
        ),
        decoding=decoding,
        skip_bad=skip_bad,
        ahead=ahead,
    )
    return Reader(rows, mesh, threads, workers)


def _share(order: Order | None, rows: Sequence[int], source: Source) -> list[range]:
    """The ranges of examples that these rows of the batches contain."""
    return order.share(rows) if order else [range(len(source))]
