"""Blocks of consecutive examples in memory, fetched before they are needed."""

import functools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from mixer.data.order import Blocks, Order
from mixer.data.sources import Source

_CONNECTIONS = 8  # fetches at a time
_SEQUENTIAL = 128  # examples a block where they are read in order


class BlockSource:
    """A source that is read by whole blocks, of which the last used ones are kept.

    What it holds is the examples of `keep` blocks at most, as they are stored (undecoded); eight
    blocks are fetched at a time. Threads share the blocks. It pickles without them: each worker
    process fetches blocks of its own.

    Args:
      source: one with `read(start, stop)`, which gives a list of examples.
      block_of: index -> the indices of the block that holds it.
    """

    def __init__(self, source: Source, block_of: Callable[[int], range], keep: int):
        self.source, self.block_of, self.keep = source, block_of, keep
        self._lock = threading.Lock()
        self._blocks: dict[range, Future] = {}  # the last used one is the last
        self._pool: ThreadPoolExecutor | None = None

    def __getstate__(self):
        return self.source, self.block_of, self.keep

    def __setstate__(self, state):
        self.__init__(*state)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # not yet there, while it is unpickled
            raise AttributeError(name)
        return getattr(self.source, name)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        block = self.block_of(index)
        try:
            return self._fetch(block).result()[index - block.start]
        except (RuntimeError, ValueError):  # one damaged or empty record fails the block
            return self.source[index]

    def will_read(self, index: int) -> None:
        """Begins to fetch the block of an example that is to be read soon."""
        self._fetch(self.block_of(index))

    def close(self) -> None:
        """Lets the blocks and the threads go; the next read begins anew."""
        with self._lock:
            pool, self._pool, self._blocks = self._pool, None, {}
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)

    def _fetch(self, block: range) -> Future[Sequence[dict[str, Any]]]:
        with self._lock:
            future = self._blocks.pop(block, None)
            if future is None or (future.done() and future.exception()):
                self._pool = self._pool or ThreadPoolExecutor(_CONNECTIONS, "blocks")
                future = self._pool.submit(self.source.read, block.start, block.stop)
            self._blocks[block] = future
            if len(self._blocks) > self.keep:
                del self._blocks[next(iter(self._blocks))]
        return future


def in_blocks(source: Source, order: Order | None, rows: Sequence[int]) -> tuple[Source, int]:
    """Lets a source be read by blocks where the order, or a remote store, asks for it.

    Args:
      order: of the examples; None if they are read once, one after the other.
      rows: those of a global batch that this process makes.

    Returns:
      The source or a `BlockSource`, and how many rows ahead an example is to be announced to it:
      one window, so that while a window is read the next one is fetched. Both are kept, and at an
      epoch's end, whose last window may be short, the one after that.
    """
    if isinstance(order, Blocks) and hasattr(source, "read"):
        keep = 3 * order.blocks_at_once(rows)
        ahead = order.window * order.block * len(rows) // order.batch_size
        return BlockSource(source, order.block_of, keep), ahead
    if order is None and getattr(source, "remote", False):
        block_of = functools.partial(_in_order, len(source))
        return BlockSource(source, block_of, 2 * _CONNECTIONS), _CONNECTIONS * _SEQUENTIAL
    return source, 0


def _in_order(size: int, index: int) -> range:
    start = index - index % _SEQUENTIAL
    return range(start, min(start + _SEQUENTIAL, size))
