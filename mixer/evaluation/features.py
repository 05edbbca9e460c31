"""A model's features, the input of its head, for all images of a split."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mixer import errors
from mixer.batch import Batch


class Features(NamedTuple):
    """The examples of a split, in the order of the split.

    Attributes:
      features: float32 [N, D].
      labels: int32 [N], the classes.
    """

    features: np.ndarray
    labels: np.ndarray


def forward(apply: Callable) -> Callable:
    """The function to compile for `extract`; `apply(params, uint8 images)` returns features."""

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
    """Features of all rows whose mask is True; None if `interrupted()` returned True meanwhile.

    Args:
      update: `forward(...)`, compiled so that its results, the features float32 [B, D], labels
        int32 [B] and mask bool [B] of a batch, are replicated on every process.

    Raises:
      Failure: a feature is NaN or infinite.
    """
    parts, running = [], None
    for batch in batches:
        # The host copies the results of one batch while the devices compute the next.
        running, done = update(params, batch), running
        parts += _unmasked_rows(done)
        if interrupted():
            return None
    parts += _unmasked_rows(running)
    found = Features(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    if not np.isfinite(found.features).all():
        raise errors.Failure("the model's features are not all finite")
    return found


def put(array: np.ndarray, place: jax.sharding.Sharding) -> jax.Array:
    """A global array of what every process has whole; each gives its devices their parts."""
    return jax.make_array_from_callback(array.shape, place, lambda part: array[part])


def _unmasked_rows(outputs: tuple | None) -> list[tuple[np.ndarray, np.ndarray]]:
    if outputs is None:
        return []
    features, labels, mask = jax.device_get(outputs)
    return [(features[mask], labels[mask])]
