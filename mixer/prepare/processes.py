"""Shards written by several processes, which stop and die with this one."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from pathlib import Path

from mixer import signals
from mixer.errors import Failure
from mixer.prepare.shard import Writer


def write(
    work: Path, name: str, shards: list[tuple[str, int]], count: int, stop: Callable[[], bool]
) -> Iterator[dict]:
    """What `Writer.write` returns for each shard, as they are done; fewer once `stop()`.

    Args:
      count: of processes; 1: this one.

    Raises:
      Failure: a process died, or cannot write.
    """
    if count == 1:
        writer = Writer(work, name)
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
                    running.add(pool.submit(_write, *shard))
                if not running:
                    return
                done, running = futures.wait(running, 1, futures.FIRST_COMPLETED)
                yield from (future.result() for future in done)
                if stop():
                    running = {future for future in running if not future.cancel()}
        except BrokenProcessPool:
            if not stop():  # a signal to the whole group ends them too
                raise Failure(
                    f"a process that writes shards has died, for lack of memory perhaps: each of "
                    f"config.prepare.processes={count} holds a shard of config.prepare.shard_size. "
                    f"The finished shards stand; the same command goes on"
                ) from None
        finally:
            pool.shutdown(cancel_futures=True)


_writer: Writer


def _start(work: Path, name: str) -> None:
    # All but the one by which the pool itself ends its processes.
    signals.leave_to_parent(*(number for number in signals.STOPS if number != signal.SIGTERM))
    threading.Thread(target=_die_with_parent, daemon=True).start()
    global _writer
    _writer = Writer(work, name)


def _die_with_parent() -> None:
    connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


def _write(split: str, number: int) -> dict:
    return _writer.write(split, number)
