"""The labels of all examples of a source, for balanced classes; images are not decoded for them."""

import numpy as np

from mixer import errors
from mixer.data.sources import Source, label_kinds


def labels_of(source: Source, key: str) -> np.ndarray:
    """The label of each example, int64 [N].

    They come from `source.every_label()`, or from reading each example.

    Args:
      key: the config key that needs them, for messages.

    Raises:
      BadInput: examples have several labels or vectors, or a label is no class or cannot be read.
    """
    kind = label_kinds.of(source).kind
    if kind != "class":
        raise errors.BadInput(
            f"{key} is for one label per image, but {source.name} has {label_kinds.KINDS[kind]}: "
            f"leave it out"
        )
    known = getattr(source, "every_label", None)
    try:
        found = known() if known else [source[i]["label"] for i in range(len(source))]
    except (OSError, RuntimeError, ValueError) as error:
        raise errors.BadInput(
            f"{key} needs the labels of {source.name} {source.split}, which cannot be read: {error}"
        ) from None
    labels = np.asarray(found, np.int64)
    strange = np.flatnonzero((labels < 0) | (labels >= len(source.classes)))
    if strange.size:
        first = int(strange[0])
        raise errors.BadInput(
            f"{source.where(first)}: label {labels[first]}: {key} expects 0 to "
            f"{len(source.classes) - 1}"
        )
    return labels
