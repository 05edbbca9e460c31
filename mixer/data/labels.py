"""A source's label or labels as a row of the batch."""

from collections.abc import Sequence

import numpy as np


def as_row(label: int | Sequence[int], padding: np.ndarray, num_classes: int) -> np.ndarray:
    """The label as the batch holds it, int32 shaped like `padding`: [] or [L], filled up with -1.

    Raises:
      ValueError: more labels than L, or one that is no class.
    """
    given = np.asarray(label)
    if given.ndim != padding.ndim or (given.size and given.dtype.kind not in "biu"):
        expected = "a sequence of class numbers" if padding.ndim else "one class number"
        raise ValueError(f"its label is {label!r}: expected {expected}")
    if given.size > padding.size:
        raise ValueError(f"it has {given.size} labels: expected {padding.size} at most")
    strange = given[(given < 0) | (given >= num_classes)]
    if strange.size:
        raise ValueError(f"label {strange[0]}: expected 0 to {num_classes - 1}")
    row = np.full(padding.shape, -1, np.int32)
    row.flat[: given.size] = given
    return row
