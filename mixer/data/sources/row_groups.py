"""The row groups of Parquet files that were read last."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq

HELD_BYTES = 2**30  # in each process


class RowGroups:
    """Reads columns of row groups, and keeps up to `HELD_BYTES` of them; threads share them."""

    def __init__(self):
        self._lock = threading.Lock()
        self._held: dict[tuple, Future[pa.ChunkedArray]] = {}  # the most recently used is last
        self._bytes = 0
        self._pool: ThreadPoolExecutor | None = None

    def get(self, file: str, table: pq.FileMetaData, group: int, column: str) -> pa.ChunkedArray:
        """A column of a row group.

        Raises:
          ValueError: it cannot be read.
        """
        key = file, group, column
        with self._lock:
            held = self._held.pop(key, None)
            mine = held is None
            self._held[key] = held = held or Future()
        if mine:
            try:
                # An open file is not for several threads; its metadata are read once.
                with pq.ParquetFile(file, metadata=table, memory_map=True) as opened:
                    values = opened.read_row_group(group, columns=[column]).column(column)
            except Exception as error:  # of any kind: other threads may wait for the result
                with self._lock:
                    self._held.pop(key, None)
                known = isinstance(error, OSError | pa.ArrowException)
                said = ValueError(f"{file}, row group {group}: {error}")
                held.set_exception(said if known else error)
            else:
                self._keep(values.nbytes)
                held.set_result(values)
        return held.result()

    def start(self, file: str, table: pq.FileMetaData, group: int, column: str) -> None:
        """Starts to read what `get` will be asked for soon; its errors are raised there."""
        with self._lock:
            if (file, group, column) in self._held:
                return
            self._pool = self._pool or ThreadPoolExecutor(1, "row groups")
            self._pool.submit(self.get, file, table, group, column)

    def _keep(self, size: int) -> None:
        with self._lock:
            self._bytes += size
            for key in [key for key, held in self._held.items() if held.done()]:
                if self._bytes <= HELD_BYTES:
                    break
                self._bytes -= self._held.pop(key).result().nbytes


GROUPS = RowGroups()
