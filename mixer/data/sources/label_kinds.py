"""What the labels of a source are: classes, or a vector with a number for each output.

The outputs are then named by `source.classes`. Soft targets are vectors that are distributions over
the classes, or independent probabilities of them; what a regression learns may be any numbers.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from mixer import errors

# {kind: what it is called}. Of the vectors, each kind is a special case of the next.
KINDS = {
    "class": "one label per image",
    "classes": "several labels per image",
    "distribution": "distributions over the classes",
    "probabilities": "probabilities of the classes",
    "values": "numbers",
}
VECTORS = ("distribution", "probabilities", "values")
ROUNDING = 1e-3  # by which the sum of a distribution may differ from 1


class Labels(NamedTuple):
    """The labels of a source.

    Attributes:
      kind: one of `KINDS`.
      most: if images may have several classes, how many at most; else 0.
    """

    kind: str = "class"
    most: int = 0

    @property
    def are_vectors(self) -> bool:
        """Whether a label is a vector of numbers."""
        return self.kind in VECTORS


def of(source: Any) -> Labels:
    """What a source says: its `label_kind` for vectors, else `max_labels`.

    Raises:
      BadInput: it has an unknown `label_kind`.
    """
    kind, most = getattr(source, "label_kind", ""), getattr(source, "max_labels", 0)
    if kind and kind not in VECTORS:
        raise errors.unknown(f"label_kind of the source {source.name}", kind, VECTORS)
    return Labels(kind or ("classes" if most else "class"), most)


def kind_of(rows: np.ndarray) -> str:
    """The narrowest kind of all vectors [N, K]. A single number is never a probability."""
    kinds = VECTORS if rows.shape[1] > 1 else ("values",)
    return next((kind for kind in kinds if not _fault(rows, kind).any()), "values")


def widest(kinds: Iterable[str]) -> str:
    """The kind of all vectors, from those of one or more parts of them."""
    return max(kinds, key=VECTORS.index)


def _fault(rows: np.ndarray, kind: str) -> np.ndarray:
    """bool [N]: which of the vectors [N, K] are not of this kind."""
    wrong = ~np.isfinite(rows).all(axis=1)
    if kind != "values":
        wrong |= ((rows < 0) | (rows > 1 + ROUNDING)).any(axis=1)
    if kind == "distribution":
        wrong |= np.abs(rows.sum(axis=1) - 1) > ROUNDING
    return wrong


def vector(label: Any, kind: str, size: int) -> np.ndarray:
    """A label as stored in a batch, float32 [size].

    Raises:
      ValueError: it is not `size` numbers of this kind.
    """
    expected = f"expected {size} numbers" if size > 1 else "expected one number"
    try:
        row = np.asarray(label, np.float64).reshape(-1)
    except (TypeError, ValueError):
        raise ValueError(f"its label is {label!r}: {expected}") from None
    if row.shape != (size,) or np.ndim(label) > 1:
        raise ValueError(f"its label is {label!r}: {expected}")
    if _fault(row[None], kind).any():
        named = "finite numbers" if kind == "values" else KINDS[kind]
        raise ValueError(f"its label is {row.tolist()}: expected {named}")
    return row.astype(np.float32)


def order_of(own: Sequence[str], wanted: Sequence[str]) -> tuple[tuple[str, ...], list[int]]:
    """The names of the outputs, and which of the data's own numbers each of them is.

    Args:
      own: the data's names in their order; "0", "1", ... if they name none.
      wanted: names to order or to name them by, such as those of a model; (): none.
    """
    if wanted and set(wanted) == set(own):
        return tuple(wanted), [own.index(name) for name in wanted]
    unnamed = tuple(own) == numbered(len(own)) and len(wanted) == len(own)
    return tuple(wanted if unnamed else own), list(range(len(own)))


def column_names(key: str) -> tuple[str, ...]:
    """The columns in `config.input.label_key`, with commas between them."""
    return tuple(filter(None, map(str.strip, key.split(","))))


def numbered(count: int) -> tuple[str, ...]:
    """Names for outputs without names."""
    return tuple(map(str, range(count)))


def summary(source: Any) -> str:
    """Says what the labels of a source are, for the line about it."""
    return described(of(source).kind, source.classes)


def described(kind: str, names: Sequence[str]) -> str:
    """Says what labels of this kind are, whose classes or numbers have these names."""
    if kind not in VECTORS:
        return f"{len(names):,} classes: {errors.shown(names)}"
    count = f"{len(names):,} numbers" if len(names) > 1 else "a number"
    how = {"distribution": " that add up to 1", "probabilities": " from 0 to 1"}.get(kind, "")
    return f"a label is {count}{how}: {errors.shown(names)}"


def shown(label: np.ndarray, names: Sequence[str], between: str = ", ") -> str:
    """A row of a batch's labels in words: its classes, or the numbers with their names."""
    if label.dtype.kind == "f":
        return between.join(f"{n} {x:.3g}" for n, x in zip(names, label.tolist(), strict=True))
    return between.join(names[i] for i in np.unique(label) if i >= 0)
