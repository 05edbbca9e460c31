"""Opens TFDS datasets in an object store without TensorFlow, after copying their metadata."""

import contextlib
import dataclasses
import re
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from mixer import errors, storage
from mixer.data.sources.remote_shards import RemoteShards, ShardPart
from mixer.storage import timeout

_SHARD = re.compile(r"-\d{5,}-of-\d{5,}$")


def is_metadata(name: str) -> bool:
    """Whether a file of a TFDS dataset is not a shard."""
    return not _SHARD.search(name)


def files(dataset: str, data_dir: str) -> list[storage.FileInfo]:
    """Lists a dataset's files in a store, for all configs and versions.

    Raises:
      BadInput: they cannot be listed.
    """
    name = re.split("[/:]", dataset)[0]
    try:
        return storage.list_files(f"{data_dir.rstrip('/')}/{name}")
    except storage.StoreError as error:
        raise errors.BadInput(f"dataset {dataset!r}: {error}") from None


@contextlib.contextmanager
def metadata(dataset: str, data_dir: Path | str) -> Iterator[Path]:
    """Yields a local TFDS data_dir that contains the dataset's metadata while the context is open.

    Raises:
      BadInput: `data_dir` does not respond.
    """
    if not storage.is_remote(data_dir):
        timeout.look(data_dir)
        yield data_dir
        return
    with tempfile.TemporaryDirectory(prefix="metadata.") as folder:
        timeout.within(data_dir, lambda: _copy_metadata(dataset, data_dir, Path(folder)))
        yield Path(folder)


def _copy_metadata(dataset: str, data_dir: str, folder: Path) -> None:
    def copy(file: storage.FileInfo) -> None:
        path = folder / file.path.removeprefix(f"{data_dir.rstrip('/')}/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(storage.read(file.path))

    found = [file for file in files(dataset, data_dir) if is_metadata(file.path)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(copy, found))


@dataclasses.dataclass(frozen=True)
class Records:
    """Replaces TFDS's data source, which reads local shards. Pickles without its metadata."""

    features: tfds.features.FeaturesDict
    decoders: dict[str, Any]
    shards: RemoteShards

    @classmethod
    def open(
        cls,
        builder: tfds.core.DatasetBuilder,
        split: str,
        decoders: dict[str, Any],
        folder: Path,
        data_dir: str,
    ) -> "Records":
        """Opens a split with its metadata below `folder` and its shards below `data_dir`."""
        parts = [
            ShardPart(
                f"{data_dir.rstrip('/')}/{Path(i.filename).relative_to(folder).as_posix()}",
                i.skip,
                i.take,
                i.examples_in_shard,
            )
            for i in builder.info.splits[split].file_instructions
        ]
        return cls(builder.info.features, decoders, RemoteShards(parts))

    def __len__(self) -> int:
        return len(self.shards)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        return [
            self.features.deserialize_example_np(record, decoders=self.decoders)
            for record in self.shards.__getitems__(indices)
        ]
