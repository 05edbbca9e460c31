"""What a classifier answers to each image of a split, and what follows from it by class."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import numpy as np

from mixer.batch import Batch


class Answers(NamedTuple):
    """The answers to the images of a split, in its order.

    Attributes:
      index: int64 [N], the image's place in the split; unreadable images are left out.
      label: int32 [N], the right class.
      predicted: int32 [N, K], the K most likely classes, the best first.
      probability: float32 [N, K], of these.
      of_label: float32 [N], the probability of the right class.
    """

    index: np.ndarray
    label: np.ndarray
    predicted: np.ndarray
    probability: np.ndarray
    of_label: np.ndarray

    @property
    def right(self) -> np.ndarray:
        """bool [N]: whether the best guess is the right class."""
        return self.predicted[:, 0] == self.label


def extract(
    answer: Callable,
    params: Any,
    batches: Iterable[Batch],
    into: Callable[..., Any] = Answers,
) -> tuple[Any, Any]:
    """The merged metrics of all batches, on the host, and the answers to all unmasked rows.

    Args:
      answer: an evaluator's `answer`, compiled so that its results are replicated.
      into: makes the answers from their columns.
    """
    total, parts, running = None, [], None
    for step, batch in enumerate(batches):
        # The host copies the results of one batch while the devices compute the next.
        running, done = (step, *answer(params, batch)), running
        total = running[1] if total is None else total.merge(running[1])
        parts += _unmasked(done)
    parts += _unmasked(running)
    found = into(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    return jax.device_get(total), found


def _unmasked(done: tuple | None) -> list[tuple[np.ndarray, ...]]:
    if done is None:
        return []
    step, _, rows = done
    mask, *columns = jax.device_get(rows)
    index = step * len(mask) + np.flatnonzero(mask)
    return [(index, *(column[mask] for column in columns))]


def confusion(answers: Answers) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (label, predicted) int [P, 2] that occur, and how often, int [P].

    The most frequent mistakes come first, the right pairs last; ties by class number.
    """
    pairs = np.stack([answers.label, answers.predicted[:, 0]], axis=1)
    pairs, times = np.unique(pairs, axis=0, return_counts=True)
    order = np.lexsort((-times, pairs[:, 0] == pairs[:, 1]))
    return pairs[order], times[order]


def reliability(answers: Answers, bins: int = 15) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bins of confidence (i / bins, (i + 1) / bins], as in the metric `ece`.

    Returns:
      Each [bins]: the number of images, their mean confidence and their accuracy; NaN if none.
    """
    confidence = answers.probability[:, 0].astype(np.float64)
    place = np.clip(np.ceil(answers.probability[:, 0] * np.float32(bins)) - 1, 0, bins - 1)
    count, sums, hits = (
        np.bincount(place.astype(int), weights, bins)
        for weights in (None, confidence, answers.right)
    )
    with np.errstate(invalid="ignore"):
        return count, sums / count, hits / count
