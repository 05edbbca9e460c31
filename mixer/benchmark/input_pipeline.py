"""The speed of the input pipeline: of each stage alone, and of whole pipelines."""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import numpy as np

STAGES = ("read", "decode", "augment", "batch", "transfer")


def stages(
    read: Callable[[int], Any],
    opened: Callable[[Any], Any],
    transforms: Sequence[Callable],
    put: Callable[[dict], None],
    indices: Sequence[int],
    batch_size: int,
) -> dict[str, float]:
    """Measures each of `STAGES` on one thread, in microseconds per image.

    Args:
      read: index -> the bytes of an image file.
      opened: file -> an image that decodes only what the first transform asks for, or all of it by
        `pixels()`; or an array.
      transforms: those of the recipe, (image, generator) -> image.
      put: transfers a host batch to the devices and waits.
      indices: examples to process.
      batch_size: number of examples in a batch.

    Returns:
      {stage: microseconds}. A crop decodes only what it keeps, so cropping cannot be measured
      separately: `decode` is the time of the first transform on an undecoded image minus its time
      on a decoded one; the latter counts as `augment`.
    """
    spent, rows = dict.fromkeys(STAGES, 0.0), []
    for index in indices:
        times = [time.perf_counter()]

        def lap(times=times) -> float:
            times.append(time.perf_counter())
            return times[-1] - times[-2]

        file = read(index)
        spent["read"] += lap()
        image = opened(file)
        pixels = image if isinstance(image, np.ndarray) else image.pixels()
        lap()
        transforms[0](pixels, np.random.default_rng(index))
        cropping = lap()
        image = transforms[0](opened(file), np.random.default_rng(index))
        spent["decode"] += lap() - cropping
        for transform in transforms[1:]:
            image = transform(image, np.random.default_rng(index))
        rows.append(np.ascontiguousarray(image))
        spent["augment"] += lap() + cropping
        if len(rows) == batch_size:
            batch = {"image": np.stack(rows)}
            spent["batch"] += lap()
            put(batch)
            spent["transfer"] += lap()
            rows = []
    return {name: 1e6 * seconds / len(indices) for name, seconds in spent.items()}


def rates(
    pipelines: dict[str, Callable[[], Generator]], batch_size: int, batches: int, rounds: int
) -> dict[str, list[float]]:
    """Measures the images/s of each pipeline once per round.

    The pipelines take turns, so that other load on the machine affects all of them alike.

    Args:
      pipelines: {name: function that starts a pipeline}, an iterator of batches with `close()`.
      batches: number of batches to time, after two that are not timed.
    """
    found = {name: [] for name in pipelines}
    for _ in range(rounds):
        for name, start in pipelines.items():
            iterator = start()
            try:
                _take(iterator, 2)
                began = time.perf_counter()
                _take(iterator, batches)
                found[name].append(batches * batch_size / (time.perf_counter() - began))
            finally:
                iterator.close()
    return found


def steady_rate(iterator: Iterator, turn: int, seconds: float) -> float:
    """Measures the batches/s of one pipeline once it is under way.

    What it made ahead while it started is taken first, for a quarter of `seconds`, and not counted.
    Both times are until the end of a turn, since the batches of a turn may come all at once.

    Args:
      turn: number of batches that are made at the same time.
      seconds: how long to measure.
    """

    def turns_per_second(seconds: float) -> float:
        began, turns = time.perf_counter(), 0
        while not turns or time.perf_counter() - began < seconds:
            _take(iterator, turn)
            turns += 1
        return turns / (time.perf_counter() - began)

    _take(iterator, turn)
    turns_per_second(seconds / 4)
    return turn * turns_per_second(seconds)


def _take(iterator: Iterator, count: int) -> None:
    for _ in range(count):
        next(iterator)
