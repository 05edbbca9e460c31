"""How fast images arrive: each stage by itself, and the whole with threads or processes."""

import time
from collections.abc import Callable, Generator, Sequence
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
    """Microseconds an image on one thread, by what they go into.

    Args:
      read: index -> an image's file.
      opened: file -> an image that decodes as much as the first transform asks for, all of it as
        `pixels()`; or an array already.
      transforms: of the recipe, (image, generator) -> image.
      put: brings a host batch to the devices and waits.
      indices: of the examples to go through.
      batch_size: of the batches that they are put into.

    Returns:
      One number for each of `STAGES`. A crop decodes only what it keeps, so its own work cannot be
      told apart directly: `decode` is the first transform on an undecoded image less what it takes
      on a decoded one, which counts as `augment`.
    """
    clock, rows = dict.fromkeys(STAGES, 0.0), []
    for index in indices:
        times = [time.perf_counter()]

        def lap(times=times) -> float:
            times.append(time.perf_counter())
            return times[-1] - times[-2]

        file = read(index)
        clock["read"] += lap()
        image = opened(file)
        pixels = image if isinstance(image, np.ndarray) else image.pixels()
        lap()
        transforms[0](pixels, np.random.default_rng(index))
        cropping = lap()
        image = transforms[0](opened(file), np.random.default_rng(index))
        clock["decode"] += lap() - cropping
        for transform in transforms[1:]:
            image = transform(image, np.random.default_rng(index))
        rows.append(np.ascontiguousarray(image))
        clock["augment"] += lap() + cropping
        if len(rows) == batch_size:
            batch = {"image": np.stack(rows)}
            clock["batch"] += lap()
            put(batch)
            clock["transfer"] += lap()
            rows = []
    return {name: 1e6 * seconds / len(indices) for name, seconds in clock.items()}


def rates(
    pipelines: dict[str, Callable[[], Generator]], batch_size: int, batches: int, rounds: int
) -> dict[str, list[float]]:
    """Images/s of each pipeline, once a round, in turns: what else the machine does hits all alike.

    Args:
      pipelines: name -> a function that starts one: an iterator of batches with `close()`.
      batches: to be timed, after two that are not.
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


def _take(iterator: Generator, count: int) -> None:
    for _ in range(count):
        next(iterator)
