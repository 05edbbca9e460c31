"""What a model makes of every image of a split, before its head."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mixer import errors
from mixer.batch import Batch


class Features(NamedTuple):
    """The examples of a split, in its order.

    Attributes:
      features: float32 [N, D].
      labels: int32 [N], the class of each.
    """

    features: np.ndarray
    labels: np.ndarray


def forward(apply: Callable) -> Callable:
    """The function to compile for `extract`; `apply(params, uint8 images)` gives features."""

    def call(params, batch: Batch):
        features = apply(params, batch["image"]).astype(jnp.float32)
        return features, batch["label"], batch["mask"]

    return call


def extract(
    update: Callable,
    params,
    batches: Iterable[Batch],
    interrupted: Callable[[], bool] = lambda: False,
) -> Features | None:
    """Features of all rows that a mask does not hide; None if `interrupted()` became true.

    Args:
      update: `forward(...)`, compiled such that every process has its results whole: (float32
        [B, D], int32 [B], bool [B]), the features, labels and mask of a batch.

    Raises:
      Failure: a feature is NaN or infinite.
    """
    parts, coming = [], None
    for batch in batches:
        # The host copies one batch while the devices work on the next.
        coming, done = update(params, batch), coming
        parts += _real_rows(done)
        if interrupted():
            return None
    parts += _real_rows(coming)
    found = Features(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    if not np.isfinite(found.features).all():
        raise errors.Failure("the model's features are not all finite")
    return found


def _real_rows(outputs: tuple | None) -> list[tuple[np.ndarray, np.ndarray]]:
    if outputs is None:
        return []
    features, labels, mask = jax.device_get(outputs)
    return [(features[mask], labels[mask])]
