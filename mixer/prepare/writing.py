"""Writes the shards of a dataset in hash order, and reads them back to check them.

Several processes write them; they stop and die with this one.
"""

import contextlib
import io
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from mixer import errors, signals, storage
from mixer.data.sources import records, splits, tfds_vectors
from mixer.prepare.dedup import Known
from mixer.prepare.entry import Entry, Unusable, read
from mixer.prepare.listing import Listing, entries_of_shard

# Names in the work folder.
LISTING = "plan.json"  # its name in older preparations, which can still be resumed
LISTS, KNOWN, DONE, PARTS, SHARDS = "lists", "known", "done", "parts", "dataset"

# All signals but the one with which a pool itself ends its processes.
_OURS = tuple(number for number in signals.STOPS if number != signal.SIGTERM)


def features(listing: Listing) -> tfds.features.FeaturesDict:
    """`image`, `label` (or `labels`, a list) and `file_name`, as in TFDS's ImageNet."""
    if listing.outputs:
        labels = {"label": tfds_vectors.feature_of(listing.outputs)}
    else:
        label = tfds.features.ClassLabel(names=listing.classes)
        several = listing.multi_label
        labels = {"labels": tfds.features.Sequence(label)} if several else {"label": label}
    image = tfds.features.Image(encoding_format=listing.encoding or None)
    return tfds.features.FeaturesDict({"image": image, **labels, "file_name": tfds.features.Text()})


class ShardWriter:
    """Writes any shard of a work folder."""

    def __init__(self, work: Path, name: str):
        self._work, self._name = work, name
        self._listing = Listing.from_json(json.loads((work / LISTING).read_text())["plan"])
        self._features = features(self._listing)
        self._label_of = {name: i for i, name in enumerate(self._listing.classes)}
        self._known = Known(work / KNOWN)

    def write(self, split: str, number: int) -> dict:
        """Writes the shard unless it is already finished.

        Returns:
          file, split, number, records, bytes (of the records), size (of the file), sha256, removed
          (images that equal a test example), failures (messages; then there is no shard).
        """
        shards = self._listing.splits[split].shards
        name = f"{self._name}-{split}.array_record-{number:05}-of-{shards:05}"
        final, done = self._work / SHARDS / name, self._work / DONE / f"{name}.json"
        # ValueError: the file may be empty after a power cut.
        with contextlib.suppress(FileNotFoundError, ValueError):
            result = json.loads(done.read_text())
            if final.exists() and storage.sha256(final) == result["sha256"]:
                return result
        failures, removed = [], []
        images = self._images(split, number, failures, removed)
        part = self._work / PARTS / f"{name}.{os.getpid()}"
        result = {"file": name, "split": split, "number": number, "removed": removed}
        if failures:
            return result | {"failures": failures}
        with storage.naming(final):
            result |= records.write_shard(part, self._features, self._examples(images))
            result["sha256"] = storage.sha256(part)
        storage.put_in_place(part, final)
        with storage.write_whole(done) as file:
            file.write(json.dumps(result).encode())
        return result

    def _images(self, split, number, failures, removed) -> list[tuple[Entry, bytes]]:
        """The shard's images in hash order, but read in the order of their position on disk."""
        entries = list(entries_of_shard(self._work / LISTS, split, number))
        images = {}
        for i in sorted(range(len(entries)), key=lambda i: (entries[i].file, entries[i].offset)):
            entry = entries[i]
            try:
                image = read(entry)
                # A validation or test split may be the very set that is compared with.
                held_out = splits.meaning(split) in (splits.VALIDATION, splits.TEST)
                compared = self._known and not held_out
                same = self._known.match(image) if compared else None
            except (Unusable, ValueError) as error:
                failures.append(f"{entry.key!r}: {error}")
                continue
            if same:
                removed.append({"file_name": entry.key, "split": split} | same)
            else:
                images[i] = image
        removed.sort(key=lambda line: line["file_name"])
        return [(entries[i], images[i]) for i in sorted(images)]

    def _examples(self, images: list[tuple[Entry, bytes]]) -> Iterator[dict]:
        for entry, image in images:
            example = {"image": io.BytesIO(image), "file_name": os.fsencode(entry.key)}
            if self._listing.outputs:
                numbers = np.asarray(entry.labels, np.float32)
                yield example | {"label": numbers if len(numbers) > 1 else numbers[0]}
            elif self._listing.multi_label:
                names = (entry.labels,) if isinstance(entry.labels, str) else entry.labels
                yield example | {"labels": [self._label(name) for name in names]}
            else:
                yield example | {"label": self._label(entry.labels)}

    def _label(self, name: str) -> int:
        # Integer labels may be written 007.
        return self._label_of[name] if name in self._label_of else int(name)


def write_shards(
    work: Path, name: str, shards: list[tuple[str, int]], count: int, stop: Callable[[], bool]
) -> Iterator[dict]:
    """Yields what `ShardWriter.write` returns as shards are finished; fewer once `stop()`.

    Args:
      count: how many processes write; 1 means this one.

    Raises:
      Failure: a process died or cannot write.
    """
    if count == 1:
        writer = ShardWriter(work, name)
        for shard in shards:
            if stop():
                return
            yield writer.write(*shard)
        return
    spawn = multiprocessing.get_context("spawn")
    todo, running = iter(shards), set()
    with futures.ProcessPoolExecutor(count, spawn, _start, (work, name)) as pool:
        try:
            while True:
                while len(running) < 2 * count and not stop():
                    if (shard := next(todo, None)) is None:
                        break
                    with signals.hidden_from_children(*_OURS):
                        running.add(pool.submit(_write, *shard))
                if not running:
                    return
                done, running = futures.wait(running, 1, futures.FIRST_COMPLETED)
                yield from (future.result() for future in done)
                if stop():
                    running = {future for future in running if not future.cancel()}
        except BrokenProcessPool:
            if not stop():  # a signal to the whole group ends them too
                raise errors.Failure(
                    f"a process that writes shards died, perhaps because it ran out of memory: "
                    f"each of config.prepare.processes={count} keeps a shard of "
                    f"config.prepare.shard_size in memory. The finished shards are kept; the same "
                    f"command resumes"
                ) from None
        finally:
            pool.shutdown(cancel_futures=True)


_writer: ShardWriter


def _start(work: Path, name: str) -> None:
    threading.Thread(target=_die_with_parent, daemon=True).start()
    global _writer
    _writer = ShardWriter(work, name)


def _die_with_parent() -> None:
    connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


def _write(split: str, number: int) -> dict:
    return _writer.write(split, number)
