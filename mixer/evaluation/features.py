"""What a model makes of every image of a split, before its head."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import numpy as np

from mixer.batch import Batch


class Features(NamedTuple):
    """The examples of a split, in its order.

    Attributes:
      features: float32 [N, D].
      labels: int32 [N], the class of each.
    """

    features: np.ndarray
    labels: np.ndarray


def extract(
    forward: Callable,
    params,
    batches: Iterable[Batch],
    interrupted: Callable[[], bool] = lambda: False,
) -> Features | None:
    """Features of all rows that a mask does not hide; None if `interrupted()` became true.

    Args:
      forward: (params, batch) -> (float32 [B, D], int32 [B], bool [B]): features, labels and mask,
        compiled such that every process has them whole.
    """
    parts, coming = [], None
    for batch in batches:
        # The host copies one batch while the devices work on the next.
        coming, done = forward(params, batch), coming
        parts += _real_rows(done)
        if interrupted():
            return None
    parts += _real_rows(coming)
    return Features(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _real_rows(outputs: tuple | None) -> list[tuple[np.ndarray, np.ndarray]]:
    if outputs is None:
        return []
    features, labels, mask = jax.device_get(outputs)
    return [(features[mask], labels[mask])]
