"""What the labels of a source are, gathered while its images are listed."""

import re
from collections.abc import Sequence

from mixer import errors
from mixer.data.sources import label_kinds
from mixer.prepare.entry import Reader, Unusable

# With more unused integer labels than this, the labels must be a mistake.
_MOST_UNUSED, _MOST_UNUSED_FOR_EACH = 1000, 10


class Labels:
    """The labels of the images so far.

    Attributes:
      multi_label: whether an image has a list of classes.
      max_labels: how many there are at most.
      kind: of vectors, the narrowest that fits all; "" for classes.
    """

    def __init__(self, reader: Reader):
        self._reader = reader
        self._found: set[str] = set()
        self.multi_label, self.max_labels, self.kind = False, 0, ""

    @property
    def outputs(self) -> list[str]:
        """The names of the numbers in a vector; [] for classes."""
        return list(self._reader.outputs)

    def add(self, label: str | tuple[str, ...] | tuple[float, ...]) -> None:
        """Adds the label of an image.

        Raises:
          Unusable: it is no vector like the others.
        """
        if self._reader.outputs:
            self._add_vector(label)
            return
        several = isinstance(label, tuple)
        labels = label if several else (label,)
        self._found.update(labels)
        self.multi_label |= several
        self.max_labels = max(self.max_labels, len(labels))

    def _add_vector(self, label: Sequence[float]) -> None:
        try:
            row = label_kinds.vector(label, "values", len(self._reader.outputs))
        except ValueError as error:
            raise Unusable(str(error)) from None
        if self.kind != "values":
            own = label_kinds.kind_of(row[None])
            self.kind = label_kinds.widest([own, self.kind] if self.kind else [own])

    def classes(self) -> list[str]:
        """The names of the classes in label order; [] for vectors.

        Raises:
          BadInput: there are none, or they cannot be classes.
        """
        if self.kind:
            return []
        integers = all(re.fullmatch(r"-?\d+", name) for name in self._found)
        if self._reader.integer_labels and self._found and integers:
            least, most = min(map(int, self._found)), max(map(int, self._found))
            used = len({int(name) for name in self._found})
            if least < 0 or most >= _MOST_UNUSED + _MOST_UNUSED_FOR_EACH * used:
                raise errors.BadInput(
                    f"{used:,} different integer labels from {least} to {most}: integer labels "
                    f"number the classes from 0, so there would be {most + 1:,}. Number them "
                    f"without gaps, or use names, such as 'c{most}'"
                )
            return [str(i) for i in range(most + 1)]
        names = list(self._reader.classes or sorted(self._found))
        if not names:
            raise errors.BadInput("no image of the source has a label")
        if broken := [name for name in names if name.splitlines() != [name.strip()]]:
            raise errors.BadInput(
                f"class {broken[0]!r}: expected one line without leading or trailing spaces"
            )
        if broken := [name for name in names if not _is_utf8(name)]:
            raise errors.BadInput(f"class {broken[0]!r} is not UTF-8: rename it")
        return names


def _is_utf8(name: str) -> bool:
    return name.encode(errors="replace").decode() == name
