"""Reads ArrayRecord shards in an object store, any run of records with one ranged request.

The array_record package's reader can read `gs://` itself, but its ranges have no end, so a store
sends about twice the bytes that are read. Here a run of 128 records of 110 kB is one request, which
returns 1.001 times their bytes. They are placed in an unnamed sparse file of the shard's size, with
the shard's own index. The package's reader reads that file like the shard: it decompresses each
record and checks its hash.
"""

import bisect
import contextlib
import itertools
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader

from mixer import errors
from mixer.storage import bucket

# Riegeli's file format: a header interrupts the chunks at every block.
_BLOCK, _BLOCK_HEADER, _CHUNK_HEADER = 2**16, 24, 40
_ATTEMPTS = 3  # to get bytes with correct hashes
_MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None


class DamagedShard(errors.Failure):
    """A file in the store is not an ArrayRecord shard, or not the one in the metadata."""


class ShardPart(NamedTuple):
    """Records skip ... skip+take-1 of a shard with `records` records."""

    url: str
    skip: int
    take: int
    records: int


class Index(NamedTuple):
    """The positions of a shard's records.

    Attributes:
      size: of the shard, in bytes.
      offsets: int64 [records + 1]; record i is bytes offsets[i] ... offsets[i+1]-1.
      end: the shard's bytes from offsets[-1] on, without trailing zeros.
    """

    size: int
    offsets: np.ndarray
    end: bytes


class RemoteShards:
    """The records of a sequence of shard parts, as bytes.

    Replaces TFDS's source of records. Thread-safe; pickles without what it has read. It caches the
    indices of the shards that were read: some 25 bytes per record and up to 64 KiB per shard.
    """

    def __init__(self, parts: Sequence[ShardPart]):
        self.parts = tuple(parts)
        self._ends = list(itertools.accumulate(part.take for part in self.parts))
        self._lock = threading.Lock()
        self._indices: dict[str, Index] = {}

    def __getstate__(self):
        return self.parts

    def __setstate__(self, parts):
        self.__init__(parts)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, key: int) -> bytes:
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[int]) -> list[bytes]:
        """Reads these records, with one request for each run of consecutive keys in a shard."""
        records = []
        for _, run in itertools.groupby(enumerate(keys), lambda pair: pair[1] - pair[0]):
            run = [key for _, key in run]
            records += self._run(run[0], run[-1] + 1)
        return records

    def _run(self, start: int, stop: int) -> list[bytes]:
        records = []
        while start < stop:
            number = bisect.bisect_right(self._ends, start)
            part, end = self.parts[number], min(stop, self._ends[number])
            shift = part.skip - (self._ends[number] - part.take)
            records += read_records(part.url, self._index(part), start + shift, end + shift)
            start = end
        return records

    def _index(self, part: ShardPart) -> Index:
        with self._lock:
            found = self._indices.get(part.url)
        if found is None:
            found = read_index(part.url, part.records)
            with self._lock:
                self._indices[part.url] = found
        return found


def read_index(url: str, records: int) -> Index:
    """Reads a shard's index, usually with one request.

    Args:
      records: how many the shard has, according to the dataset's metadata.

    Raises:
      DamagedShard: not such a shard.
      StoreError: the store does not respond.
    """
    # The index takes up to 24 bytes per record before compression. It is followed by zeros up to
    # the next block, and then by a block that contains its position.
    expected = 2 * _BLOCK + 4096 + 24 * records
    entries, index = _retry_if_damaged(f"{url}: its index", lambda: _fetch_index(url, expected))
    if any(entry[3] != 1 for entry in entries):
        raise DamagedShard(
            f"{url} has {entries[0][3]} records per group, expected 1 (as TFDS writes), so ranges "
            f"of it cannot be read. Read a copy on a disk (docs/data.md)"
        )
    if len(entries) != records:
        raise DamagedShard(
            f"{url} has {len(entries):,} records, but its dataset's metadata say {records:,}: copy "
            f"or prepare both again"
        )
    return index


def read_records(url: str, index: Index, start: int, stop: int) -> list[bytes]:
    """Reads records start ... stop-1 of a shard with one request, or more if bytes are damaged.

    Raises:
      DamagedShard: they stay damaged.
      StoreError: the store does not respond.
    """
    first, last = int(index.offsets[start]), int(index.offsets[stop])

    def fetch():
        pieces = {first: bucket.read(url, first, last), int(index.offsets[-1]): index.end}
        with _sparse_reader(index.size, pieces) as reader:
            return reader.read(start, stop)

    return _retry_if_damaged(f"{url}: records {start}-{stop - 1} (bytes {first}-{last - 1})", fetch)


def _retry_if_damaged(what: str, fetch: Callable[[], Any]) -> Any:
    for _ in range(_ATTEMPTS):
        try:
            return fetch()
        except (RuntimeError, ValueError, IndexError, KeyError) as error:
            damage = str(error).partition("\n")[0]
    raise DamagedShard(f"{what} cannot be read: {damage}. Copy or prepare the shard again")


@contextlib.contextmanager
def _sparse_reader(size: int, pieces: dict[int, bytes]) -> Iterator[ArrayRecordReader]:
    """A reader of a shard that contains only these pieces, given by offset."""
    # Unnamed, so that nothing is left behind however the process ends.
    with tempfile.TemporaryFile(dir=_MEMORY, buffering=0) as file:
        file.truncate(size)
        for offset, content in pieces.items():
            _write_at(file.fileno(), content, offset)
        reader = ArrayRecordReader(
            f"/dev/fd/{file.fileno()}", "readahead_buffer_size:0,max_parallelism:0"
        )
        yield reader
        reader.close()


def _write_at(file: int, content: bytes, offset: int) -> None:
    try:
        written = os.pwrite(file, content, offset)
    except OSError as error:
        raise errors.Failure(f"{_MEMORY} cannot be written: {error}") from None
    if written < len(content):
        raise errors.Failure(f"{_MEMORY} is full: it buffers the blocks of records being read")


def _fetch_index(url: str, expected: int) -> tuple[list[dict[int, int]], Index]:
    end, size = bucket.read_end(url, expected)
    postscript, *_ = _read_chunk(end[-_BLOCK:], 0)
    offset = _fields(postscript)[1]
    if offset < size - len(end):
        end = bucket.read(url, offset, size)
    end = end[offset - size :]
    with _sparse_reader(size, {offset: end}):
        pass  # checks its hash
    entries = [_fields(entry) for entry in _read_chunk(end, offset)[1:]]
    offsets = np.array([*(entry[1] for entry in entries), offset], np.int64)
    return entries, Index(size, offsets, end.rstrip(b"\0"))


def _read_chunk(content: bytes, position: int) -> list[bytes]:
    """The records of the simple-encoded chunk at a position of the file."""
    import pyarrow  # takes 0.2 s to import, and only object stores need it

    def decompress(data: bytes) -> bytes:
        if compression == 0:
            return data
        size, at = _varint(data, 0)
        codec = {0x62: "brotli", 0x7A: "zstd"}[compression]
        return pyarrow.decompress(data[at:], size, codec, asbytes=True)

    content = _without_block_headers(content, position)
    if len(content) < _CHUNK_HEADER or content[24:25] != b"r":
        raise ValueError("no chunk of records at the expected position")
    size = int.from_bytes(content[8:16], "little")
    count = int.from_bytes(content[25:32], "little")
    data = content[_CHUNK_HEADER : _CHUNK_HEADER + size]
    compression = data[0]
    length, at = _varint(data, 1)
    sizes, values = decompress(data[at : at + length]), decompress(data[at + length :])
    records, at, value = [], 0, 0
    for _ in range(count):
        length, at = _varint(sizes, at)
        records.append(values[value : value + length])
        value += length
    return records


def _without_block_headers(content: bytes, position: int) -> bytes:
    first = -position % _BLOCK
    pieces = [content[:first]]
    for block in range(first, len(content), _BLOCK):
        pieces.append(content[block + _BLOCK_HEADER : block + _BLOCK])
    return b"".join(pieces)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A protobuf varint and the position after it."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def _fields(message: bytes) -> dict[int, int]:
    """The fields of a protobuf message that contains only varints."""
    fields, at = {}, 0
    while at < len(message):
        key, at = _varint(message, at)
        fields[key >> 3], at = _varint(message, at)
    return fields
