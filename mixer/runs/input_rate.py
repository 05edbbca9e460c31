"""Measures how many images a second this host makes for a training."""

import os

import jax

from mixer.benchmark import input_pipeline
from mixer.data import pipeline
from mixer.runs.reader import Reader

_SECONDS = 2.0
# Rows that are read at a time: a batch of thousands would take longer than all of the measurement.
_ROWS = 32


def measure(reader: Reader) -> float:
    """Images/s of this process, in the second epoch of a training with this reader.

    It takes some two seconds, besides the start of the worker processes, which end with it. Nothing
    is copied to the devices.

    Raises:
      BadExample: an image cannot be read.
    """
    rows, first = reader.rows, reader.second_epoch
    size = min(_ROWS, len(rows.rows))
    batches = pipeline.batches(
        rows,
        start=first,
        stop=first + 2**31 // rows.batch_size,
        threads=reader.threads,
        workers=reader.workers,
        size=size,
    )
    try:
        return size * input_pipeline.steady_rate(batches, reader.workers or 1, _SECONDS)
    finally:
        batches.close()
        getattr(rows.source, "close", lambda: None)()


def described(made: float, needed: float | None, reader: Reader, *, staged: bool) -> str:
    """The measured rate, beside the rate that is needed, in words that follow "this host".

    Args:
      made, needed: images/s of this process; `needed` is None if unknown.
      staged: whether the run copies its data first, which was not done for the measurement.
    """
    workers, threads = reader.workers, pipeline.reading_threads(reader.threads, reader.workers)
    by = _counted(workers, "worker process", "es") if workers else _counted(threads, "thread", "s")
    text = f"makes {made:,.0f} images/s with {by}{', before staging' * staged}"
    if needed is None:
        return text
    device = f"{jax.local_device_count()} {jax.local_devices()[0].device_kind}"
    text += f"; its {device} could train on about {float(f'{needed:.2g}'):,.0f}"
    if made >= needed:
        return f"{text}: it keeps up"
    cores, helps = os.cpu_count() or 1, []
    if workers < cores:
        helps.append(f"more worker processes (config.runtime.workers; there are {cores} cores)")
    if not staged:
        helps.append("a copy on a local disk or in memory (config.input.stage)")
    return f"{text}: they will wait. What helps: {', '.join([*helps, 'images stored smaller'])}"


def _counted(count: int, what: str, plural: str) -> str:
    return f"{count} {what}{plural * (count != 1)}"
