"""The same input pipeline in Grain's own API, for comparison in the benchmark of ours.

Ours is made of Grain's parts, too, with an order and generators of its own: any of its steps can be
made again on any number of hosts, and an image that cannot be read is named or skipped.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import grain
import numpy as np


def batches(
    source: Sequence[dict[str, Any]],
    opened: Callable[[Any], Any],
    transform: Callable[[Any, np.random.Generator], np.ndarray],
    labelled: Callable[[Any], np.ndarray],
    *,
    seed: int,
    batch_size: int,
    threads: int = 1,
    workers: int = 0,
    worker_init: Callable[[int, int], None] | None = None,
) -> grain.DatasetIterator:
    """Endless batches {"image": uint8 [batch_size, H, W, 3], "label": [batch_size, ...]}.

    Each epoch has every example once, in an order of its own. All functions pickle if there are
    worker processes.

    Args:
      source: examples {"image": ..., "label": ...}.
      opened: a stored image -> what the transform takes.
      transform: (image, generator) -> uint8 [H, W, 3].
      labelled: a stored label -> an array, of one shape.
      threads: number of threads, each of which makes whole batches; in each worker process if there
        are any.
      workers: number of worker processes; 0: threads in this process.
      worker_init: what each worker process calls first, with its number and how many there are.
    """
    row = functools.partial(_row, opened, transform, labelled)
    dataset = grain.MapDataset.source(source).shuffle(seed=seed).random_map(row, seed=seed)
    dataset = dataset.repeat().batch(batch_size, drop_remainder=True)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
    read = dataset.to_iter_dataset(options)
    if workers:
        read = read.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers), worker_init)
    return iter(read)


def _row(
    opened: Callable, transform: Callable, labelled: Callable, example: dict, rng
) -> dict[str, np.ndarray]:
    image = transform(opened(example["image"]), rng)
    return {"image": np.ascontiguousarray(image), "label": labelled(example["label"])}
