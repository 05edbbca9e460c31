"""Copies a TFDS dataset once to a local disk or to memory, and reads it there."""

import dataclasses
import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from mixer import errors, storage
from mixer.data.sources import AS_IT_IS, Reading, Source, TfdsSource, open_source, remote_dataset
from mixer.data.sources.around import Around
from mixer.data.sources.tfds_builder import open_prepared
from mixer.storage import FileInfo, timeout

_CONNECTIONS = 8  # concurrent copies
_REPORT_SECONDS = 10.0  # seconds between progress lines


@dataclasses.dataclass(frozen=True)
class ShardCopy:
    """A shard to copy, and the examples of the split that it contains."""

    origin: FileInfo
    copy: Path
    examples: range

    @property
    def complete(self) -> bool:
        """Whether the copy is complete: it gets its name only then."""
        return self.copy.exists() and self.copy.stat().st_size == self.origin.size


@dataclasses.dataclass(frozen=True)
class StagedSource(Around):
    """A source that reads copies of shards; `stage` must make them before the first read."""

    source: Source
    folder: Path
    shards: Sequence[ShardCopy]
    every_label: Callable[[], Sequence[int]]  # the origin's, as they are needed before the copy

    def check_space(self, share: Sequence[range]) -> None:
        """Checks that the folder has space for the missing shards.

        Args:
          share: the examples that will be read.

        Raises:
          BadInput: it does not; the message has the sizes.
        """
        missing = sum(shard.origin.size for shard in self._missing(share))
        free = shutil.disk_usage(self.folder).free
        if missing > free:
            raise errors.BadInput(
                f"config.input.stage={self.folder} has {free / 1e9:,.3f} GB free, {self.name} "
                f"{self.split} needs {missing / 1e9:,.3f} GB more: free some, or use another disk"
            )

    def stage(self, share: Sequence[range], say: Callable[[str], None] = print) -> None:
        """Copies the shards that contain these examples, unless they are already copied.

        If it is interrupted, complete copies stay. A lock lets only one process copy at a time.

        Args:
          share: the examples that will be read.
          say: called with a progress line now and then.

        Raises:
          BadInput: not enough space.
          DamagedCopy, StoreError, Failure: the shards cannot be read or the folder not written.
        """
        if not self._missing(share):
            return
        with storage.lock(self.folder / ".staging.lock"):
            missing = self._missing(share)
            if missing:
                self.check_space(share)
                what = f"{self.name} {self.split} to {self.folder}"
                try:
                    _copy_all(missing, what, say)
                except OSError as error:
                    raise errors.Failure(f"staging {what}: {error}") from error

    def _missing(self, share: Sequence[range]) -> list[ShardCopy]:
        def needed(held: range) -> bool:
            return any(held.start < part.stop and part.start < held.stop for part in share)

        return [s for s in self.shards if needed(s.examples) and not s.complete]


def open_staged(
    dataset: str,
    split: str,
    data_dir: Path | str,
    folder: Path | str,
    reading: Reading = AS_IT_IS,
) -> StagedSource:
    """Opens a split from `data_dir` to be read from its copy in `folder`; copies only metadata.

    Raises:
      BadInput: what `open_source` refuses, or a folder that cannot be written or that contains a
        copy of a different preparation.
    """
    if storage.is_remote(folder):
        raise errors.BadInput(f"config.input.stage={folder}: expected a local folder")
    source = open_source(dataset, split, data_dir, reading)
    if not isinstance(source, TfdsSource):
        raise errors.BadInput(
            f"config.input.stage={folder} is for prepared TFDS datasets: leave it empty, because "
            f"{dataset} is read in place"
        )
    with open_prepared(dataset, data_dir) as prepared:
        builder = prepared.builder
        instructions = builder.info.splits[source.split].file_instructions
        version = Path(builder.data_path)
        below = Path(os.path.relpath(version, prepared.local))
        origins = _origins(dataset, data_dir, version, below)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with storage.lock(folder / ".staging.lock"):
                _copy_metadata(version, folder / below)
        except OSError as error:
            raise errors.BadInput(
                f"config.input.stage={folder} cannot be written: {error}"
            ) from None
    shards, count = [], 0
    for instruction in instructions:
        name = Path(instruction.filename).name
        if name not in origins:
            raise errors.BadInput(f"dataset {dataset!r}: {data_dir} lacks {below / name}")
        examples = range(count, count + instruction.take)
        shards.append(ShardCopy(origins[name], folder / below / name, examples))
        count += instruction.take
    with open_prepared(dataset, folder) as prepared:  # whose labels cannot be read yet
        records = prepared.records(source.split)
    copied = dataclasses.replace(source, records=records, remote=False)
    return StagedSource(copied, folder, shards, source.every_label)


def _origins(dataset: str, data_dir: Path | str, version: Path, below: Path) -> dict[str, FileInfo]:
    """{name: shard} of the files in `data_dir`."""
    if storage.is_remote(data_dir):
        folder = f"{data_dir.rstrip('/')}/{below.as_posix()}/"
        files = remote_dataset.files(dataset, data_dir)
        files = [file for file in files if file.path.startswith(folder)]
    else:
        files = timeout.within(version, lambda: storage.list_files(version))
    return {file.path.rpartition("/")[2]: file for file in files}


def _copy_metadata(version: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    files = [p for p in version.iterdir() if p.is_file() and remote_dataset.is_metadata(p.name)]
    contents = {folder / path.name: path.read_bytes() for path in files}
    # If config.run=prepare made the dataset, these include the checksums of the shards.
    if any(copy.exists() and copy.read_bytes() != new for copy, new in contents.items()):
        raise errors.BadInput(
            f"{folder} contains a copy of a different preparation of this dataset: delete it"
        )
    for copy, content in contents.items():
        with storage.write_whole(copy) as file:
            file.write(content)


def _copy_all(shards: Sequence[ShardCopy], what: str, say: Callable[[str], None]) -> None:
    size = sum(shard.origin.size for shard in shards)
    began = said = time.monotonic()
    copied, stopping, checks = 0, threading.Event(), set()

    def check_wanted() -> None:
        if stopping.is_set():
            raise InterruptedError("another shard failed, or the copying was stopped")

    say(f"staging {what}: {len(shards):,} shards, {size / 1e9:,.1f} GB")
    with ThreadPoolExecutor(_CONNECTIONS, "staging") as pool:
        futures = {pool.submit(storage.copy, s.origin, s.copy, check_wanted): s for s in shards}
        try:
            for done, future in enumerate(as_completed(futures), 1):
                checks.add(future.result())
                copied += futures[future].origin.size
                now = time.monotonic()
                if now - said >= _REPORT_SECONDS:
                    rate = copied / (now - began)
                    say(
                        f"staged {done:,} of {len(shards):,} shards, {copied / 1e9:,.1f} of "
                        f"{size / 1e9:,.1f} GB, {rate / 1e9:.2f} GB/s, "
                        f"{(size - copied) / rate:,.0f} s left"
                    )
                    said = now
        except BaseException:
            stopping.set()
            pool.shutdown(cancel_futures=True)
            raise
    seconds = time.monotonic() - began
    say(f"staged {what} in {seconds:,.0f} s; checked: {', '.join(sorted(checks))}")
