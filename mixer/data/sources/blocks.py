"""Prefetches blocks of consecutive examples into memory."""

import functools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from mixer.data.order import Blocks, Order
from mixer.data.row_group_order import RowGroups
from mixer.data.sources import Source
from mixer.data.sources.around import Around
from mixer.data.sources.grouped import ahead_by_group

_CONNECTIONS = 8  # concurrent fetches
_SEQUENTIAL = 128  # examples per block when reading in order
_SINGLES = 32  # concurrent fetches of single examples


class BlockSource(Around):
    """Reads a source in whole blocks and caches the most recently used ones.

    It caches at most `keep` blocks of examples, as stored (undecoded). Threads share the cache. It
    is not pickled: each worker process fetches its own blocks.

    Args:
      source: one with `read(start, stop)`, which returns a list of examples; without it they are
        read one by one.
      block_of: index -> the indices of the block that contains it.
      connections: how many blocks are fetched at a time.
    """

    def __init__(
        self,
        source: Source,
        block_of: Callable[[int], range],
        keep: int,
        connections: int = _CONNECTIONS,
    ):
        self.source, self.block_of, self.keep = source, block_of, keep
        self.connections = connections
        self._lock = threading.Lock()
        self._blocks: dict[range, Future] = {}  # the most recently used is last
        self._pool: ThreadPoolExecutor | None = None

    def __getstate__(self):
        return self.source, self.block_of, self.keep, self.connections

    def __setstate__(self, state):
        self.__init__(*state)

    def __getitem__(self, index: int) -> dict[str, Any]:
        block = self.block_of(index)
        try:
            return self._fetch(block).result()[index - block.start]
        except (RuntimeError, ValueError):  # one damaged or empty record fails the block
            return self.source[index]

    def will_read(self, index: int) -> None:
        """Starts fetching the block of an example that will be read soon."""
        self._fetch(self.block_of(index))

    def close(self) -> None:
        """Frees the blocks and the threads; the next read starts over."""
        with self._lock:
            pool, self._pool, self._blocks = self._pool, None, {}
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)

    def _fetch(self, block: range) -> Future[Sequence[dict[str, Any]]]:
        with self._lock:
            future = self._blocks.pop(block, None)
            if future is None or (future.done() and future.exception()):
                self._pool = self._pool or ThreadPoolExecutor(self.connections, "blocks")
                future = self._pool.submit(self._read, block)
            self._blocks[block] = future
            if len(self._blocks) > self.keep:
                del self._blocks[next(iter(self._blocks))]
        return future

    def _read(self, block: range) -> Sequence[dict[str, Any]]:
        if hasattr(self.source, "read"):
            return self.source.read(block.start, block.stop)
        return [self.source[index] for index in block]


def in_blocks(source: Source, order: Order | None, rows: Sequence[int]) -> tuple[Source, int]:
    """Wraps a source so that it reads ahead, if the order or a remote store needs it.

    Args:
      order: the training order; None if the examples are read once, in sequence.
      rows: the rows of a global batch that this process makes.

    Returns:
      The source or what wraps it, and how many rows ahead examples must be announced to it: one
      window, so that the next window is fetched while one is read. The blocks of three windows are
      kept, because the last one of an epoch may be short, and then the one after the next is
      fetched, too.
    """
    if isinstance(order, RowGroups):
        return ahead_by_group(source, order, rows)
    if isinstance(order, Blocks) and hasattr(source, "read"):
        keep = 3 * order.blocks_at_once(rows)
        ahead = order.window * order.block * len(rows) // order.batch_size
        return BlockSource(source, order.block_of, keep), ahead
    if getattr(source, "remote", False) and not hasattr(source, "read"):
        return BlockSource(source, _alone, 4 * _SINGLES, _SINGLES), _SINGLES
    if order is None and getattr(source, "remote", False):
        block_of = functools.partial(_in_order, len(source))
        return BlockSource(source, block_of, 2 * _CONNECTIONS), _CONNECTIONS * _SEQUENTIAL
    return source, 0


def _alone(index: int) -> range:
    return range(index, index + 1)


def _in_order(size: int, index: int) -> range:
    start = index - index % _SEQUENTIAL
    return range(start, min(start + _SEQUENTIAL, size))
