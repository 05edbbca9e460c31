"""How often training sees each example, and how much it counts: the classes' weights."""

import numpy as np
from ml_collections import ConfigDict

from mixer import errors
from mixer.data.sources import Source
from mixer.data.sources.labels import labels_of

_SHOWN = 5
BALANCED = "balanced"


def class_weights(config: ConfigDict, source: Source) -> np.ndarray | None:
    """`config.class_weights` as float32 [K], with mean 1 over the training examples.

    Returns:
      None if all examples have the same weight. The weight of a class without examples is 1.

    Raises:
      BadInput: neither `balanced` nor K numbers, or the labels are not known.
    """
    asked = config.class_weights
    if not asked:
        return None
    key = f"config.class_weights={asked!r}"
    shares = np.bincount(labels_of(source, key), minlength=len(source.classes)) / len(source)
    weights = np.ones(len(shares))
    there = shares > 0
    if asked == BALANCED:
        weights[there] = 1 / (shares[there] * there.sum())
    else:
        given = _numbers(key, asked, source)
        weights[there] = given[there] / (given * shares).sum()
    print(f"class weights: {_shown(weights, source.classes, there)}", flush=True)
    return weights.astype(np.float32)


def _numbers(key: str, text: str, source: Source) -> np.ndarray:
    expected = (
        f"expected balanced, or {len(source.classes)} numbers above 0 with commas between them, in "
        f"the order of the classes: {errors.shown(source.classes)}"
    )
    try:
        given = np.array([float(part) for part in text.split(",")])
    except ValueError:
        raise errors.BadInput(f"{key}: {expected}") from None
    if len(given) != len(source.classes):
        raise errors.BadInput(f"{key} has {len(given)} numbers: {expected}")
    if not (np.isfinite(given) & (given > 0)).all():
        raise errors.BadInput(f"{key}: {expected}")
    return given


def _shown(weights: np.ndarray, classes, there: np.ndarray) -> str:
    """The weights by class, the largest and smallest of many."""
    order = np.flatnonzero(there)
    if len(order) > 2 * _SHOWN:
        order = order[np.argsort(-weights[order], kind="stable")]
        order = [*order[:_SHOWN], None, *order[-_SHOWN:]]
    parts = ["..." if i is None else f"{classes[i]} {weights[i]:.3g}" for i in order]
    return ", ".join(parts) + "; their mean over the training images is 1"
