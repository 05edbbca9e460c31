"""Lists a source's images in files on disk: sorted by the hash of the name, one file per shard.

A first pass over the source examines each image and writes a line for it to one of 128 files, by
the first bits of its hash. Sorting these one at a time needs memory for only 1/128 of the lines.
"""

import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mixer import errors
from mixer.data.sources import label_kinds
from mixer.data.sources.hash_order import hash_key
from mixer.data.sources.splits import meaning
from mixer.prepare.entry import Entry, Reader, Unusable, examine
from mixer.prepare.labels import Labels

_BUCKETS, _GROUP, _THREADS = 128, 2048, 8  # macOS lets a process open 256 files
_SHOWN = 5  # of a long list of bad images


@dataclasses.dataclass
class Split:
    """Counts of a split before duplicates of test images are removed; `bytes` of images only."""

    examples: int = 0
    bytes: int = 0
    shards: int = 0


@dataclasses.dataclass
class Listing:
    """What is known of a source once its images are listed; can be saved as JSON.

    Attributes:
      multi_label: whether examples have a list of labels.
      encoding: "jpeg" or "png"; "" for a mixture or other formats.
      outputs, label_kind: the names of the numbers and their kind, if labels are vectors; see
        label_kinds.py.
      archives: (path, size, modification time) of the archives whose members are listed.
    """

    classes: list[str]
    multi_label: bool
    max_labels: int
    encoding: str
    splits: dict[str, Split]
    archives: list[list]
    outputs: list[str] = dataclasses.field(default_factory=list)
    label_kind: str = ""

    @property
    def examples(self) -> int:
        """The number of examples in all splits."""
        return sum(split.examples for split in self.splits.values())

    @property
    def bytes(self) -> int:
        """The bytes of the images in all splits."""
        return sum(split.bytes for split in self.splits.values())

    def described(self) -> str:
        """Says what the labels are."""
        if self.outputs:
            return label_kinds.described(self.label_kind, self.outputs)
        return label_kinds.described("class", self.classes)

    def shards(self) -> list[tuple[str, int]]:
        """(split, number) of every shard."""
        return [(name, i) for name, split in self.splits.items() for i in range(split.shards)]

    @classmethod
    def from_json(cls, saved: dict) -> "Listing":
        splits = {name: Split(**split) for name, split in saved["splits"].items()}
        return cls(**saved | {"splits": splits})


def list_source(
    reader: Reader,
    folder: Path,
    shard_bytes: int,
    split: str,
    progress: Callable[[int, int], None],
) -> Listing:
    """Lists the source in `folder`, with a file `<split>-<number>` for each shard.

    Args:
      split: for images whose split the source does not name.
      progress: called with the number of images and bytes just done.

    Raises:
      BadInput: images cannot be used or share a name, or the source is not as expected.
    """
    first = _FirstPass(reader, folder / "buckets", split)
    first.fill(folder, progress)
    listing = first.summary(shard_bytes)
    _cut(first.folder, folder, listing)
    shutil.rmtree(first.folder)
    return listing


def entries_of_shard(folder: Path, split: str, number: int) -> Iterator[Entry]:
    """The images of a shard, in hash order."""
    with (folder / f"{split}-{number}").open("rb") as file:
        for line in file:
            fields = json.loads(line.split(b" ", 2)[2])
            if isinstance(fields[2], list):
                fields[2] = tuple(fields[2])
            yield Entry(*fields)


class _FirstPass:
    """The first pass: examines every image and writes its line to a bucket."""

    def __init__(self, reader: Reader, folder: Path, split: str):
        self.reader, self.folder, self.split = reader, folder, split
        self.splits: dict[str, Split] = {}
        self.labels = Labels(reader)
        self.archives: set[str] = set()
        self.formats: set[str] = set()
        self.failed = 0
        self.failures: list[str] = []

    def fill(self, scratch: Path, progress: Callable[[int, int], None]) -> None:
        self.folder.mkdir()
        with contextlib.ExitStack() as stack:
            names = (self.folder / f"{i:02x}" for i in range(_BUCKETS))
            buckets = [stack.enter_context(name.open("wb")) for name in names]
            pool = stack.enter_context(ThreadPoolExecutor(_THREADS))
            listed = self.reader.entries(scratch)
            while group := list(itertools.islice(listed, _GROUP)):
                size = -(-len(group) // _THREADS)
                parts = [group[i : i + size] for i in range(0, len(group), size)]
                results = itertools.chain.from_iterable(pool.map(_examine, parts))
                total = 0
                for entry, result in zip(group, results, strict=True):
                    try:
                        if isinstance(result, Unusable):
                            raise result
                        self.labels.add(entry.labels)
                    except Unusable as error:
                        self._fail(f"{entry.key!r}: {error}")
                        continue
                    total += result[0]
                    self._add(entry, *result, buckets)
                progress(len(group), total)

    def _fail(self, message: str) -> None:
        self.failed += 1
        if len(self.failures) < _SHOWN:
            self.failures.append(message)

    def _add(self, entry: Entry, size: int, image_format: str, buckets: list) -> None:
        entry = entry._replace(split=entry.split or self.split, size=size)
        if entry.offset >= 0:
            self.archives.add(entry.file)
        self.formats.add(image_format)
        split = self.splits.setdefault(entry.split, Split())
        split.examples += 1
        split.bytes += size
        digest = hash_key(entry.key)
        line = json.dumps(entry)
        buckets[digest[0] * _BUCKETS // 256].write(
            f"{digest.hex()} {entry.split} {line}\n".encode()
        )

    def summary(self, shard_bytes: int) -> Listing:
        if self.failed:
            raise errors.BadInput(
                f"{self.failed:,} images cannot be used; fix or remove them: "
                f"{some(self.failures, self.failed)}"
            )
        if not self.splits:
            raise errors.BadInput("the source has no images")
        counts = {name: split.examples for name, split in self.splits.items()}
        if self.reader.expected and counts != dict(self.reader.expected):
            raise errors.BadInput(
                f"the source has {_counts(counts)}: expected {_counts(self.reader.expected)}. To "
                f"prepare a part of it, use tar:PATH or folder:PATH and another name"
            )
        for name, split in self.splits.items():
            if not re.fullmatch(r"[A-Za-z0-9_]+", name) or name == "all":
                raise errors.BadInput(f"split {name!r}: expected letters, digits and underscores")
            meant = meaning(name)
            if same := [o for o in self.splits if meant and o != name and meaning(o) == meant]:
                raise errors.BadInput(f"{name} and {same[0]} both mean the split {meant}")
            split.shards = min(max(round(split.bytes / shard_bytes), 1), split.examples)
        formats = sorted(self.formats)
        return Listing(
            classes=self.labels.classes(),
            multi_label=self.labels.multi_label,
            max_labels=self.labels.max_labels,
            encoding=self.reader.encoding or (formats[0] if len(formats) == 1 else ""),
            splits=dict(sorted(self.splits.items())),
            archives=[[path, *status(path)] for path in sorted(self.archives)],
            outputs=self.labels.outputs,
            label_kind=self.labels.kind,
        )


def _examine(part: list[Entry]) -> list:
    results = []
    for entry in part:
        try:
            results.append(examine(entry))
        except Unusable as error:
            results.append(error)
    return results


def _cut(buckets: Path, folder: Path, listing: Listing) -> None:
    """Sorts the buckets and writes a file for each shard; refuses images with the same name."""
    written = dict.fromkeys(listing.splits, 0)
    twice, shown, last = 0, [], b""
    with contextlib.ExitStack() as stack:
        shards = {}
        for bucket in sorted(buckets.iterdir()):
            lines = bucket.read_bytes().splitlines(keepends=True)
            lines.sort()
            for line in lines:
                digest, split, rest = line.split(b" ", 2)
                if digest == last:
                    twice += 1
                    shown += [repr(json.loads(rest)[0])] * (twice <= _SHOWN)
                last, split = digest, split.decode()
                of = listing.splits[split]
                number = written[split] * of.shards // of.examples
                if shards.get(split, (None, None))[0] != number:
                    if split in shards:
                        shards[split][1].close()
                    file = stack.enter_context((folder / f"{split}-{number}").open("wb"))
                    shards[split] = (number, file)
                shards[split][1].write(line)
                written[split] += 1
    if twice:
        raise errors.BadInput(
            f"{twice:,} names occur twice, so these examples could not be told apart: "
            f"{some(shown, twice)}"
        )


def some(shown: list[str], total: int) -> str:
    """The items `shown` of a list, and how many more there are."""
    return ", ".join(shown) + (f", and {total - len(shown):,} more" if total > len(shown) else "")


def _counts(counts) -> str:
    return " and ".join(f"{n:,} in {name}" for name, n in sorted(counts.items()))


def fingerprint(files: Iterable[Path]) -> dict:
    """A digest of the names, sizes and modification times of files, to detect changes.

    Raises:
      BadInput: a file is missing.
    """
    digest, count, total = hashlib.blake2b(digest_size=16), 0, 0
    for file in files:
        try:
            size, when = status(file)
        except OSError as error:
            raise errors.BadInput(f"{file}: {error.strerror}") from None
        digest.update(os.fsencode(f"{file}\0{size}\0{when}\n"))
        count, total = count + 1, total + size
    return {"files": count, "bytes": total, "digest": digest.hexdigest()}


def status(file: str | Path) -> list[int]:
    """Size and modification time (ns) of a file."""
    found = os.stat(file)
    return [found.st_size, found.st_mtime_ns]
