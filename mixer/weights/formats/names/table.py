"""Tables that translate a family's array names and layouts between files and our models.

A table has rows of name templates, used in both directions. {0} and {1} are numbers, of blocks for
example, the same in all templates of a row: "encoderblock_{0}/cls" and "blocks.{0}.cls"; {1:02} has
two digits.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

Arrays = dict[str, np.ndarray]


class Layout(NamedTuple):
    """Layout conversion between a file's array and ours, each way: (array, model) -> array."""

    ours: Callable[[np.ndarray, Any], np.ndarray] = lambda array, model: array
    theirs: Callable[[np.ndarray, Any], np.ndarray] = lambda array, model: array


AS_IS = Layout()
SQUEEZED = Layout(ours=lambda array, model: array.squeeze())
# In PyTorch a Dense kernel is [out, in], a convolution's [out, in, height, width].
TORCH_KERNEL = Layout(
    ours=lambda array, model: array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T,
    theirs=lambda array, model: array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T,
)
# For a Dense kernel that is a 1 x 1 convolution in PyTorch.
TORCH_1X1 = Layout(lambda a, m: a[:, :, 0, 0].T, lambda a, m: a.T[:, :, None, None])


class Row(NamedTuple):
    """The names of one kind of array.

    Attributes:
      ours: template of our name; several if one array in the file is all of these, stacked.
      theirs: template of the name in the file.
    """

    ours: str | tuple[str, ...]
    theirs: str
    layout: Layout = AS_IS

    @property
    def all_ours(self) -> tuple[str, ...]:
        """`ours`, always as a tuple."""
        return (self.ours,) if isinstance(self.ours, str) else self.ours


def torch_rows(*rows: tuple) -> tuple[Row, ...]:
    """Rows with PyTorch's names; kernels without a layout get `TORCH_KERNEL`."""
    found = (Row(*row) for row in rows)
    return tuple(
        row._replace(layout=TORCH_KERNEL)
        if row.layout is AS_IS and isinstance(row.ours, str) and row.ours.endswith("kernel")
        else row
        for row in found
    )


@dataclasses.dataclass(frozen=True)
class NameTable:
    """The names in one kind of a family's files.

    Attributes:
      title: what the names are called in messages.
      mark: template of an array that the family's other tables do not have.
      rows: one per kind of array.
      first: the number in the file of what is number 0 here.
      aliases: (regular expression, replacement) pairs that turn other spellings into the table's.
      prepare: applied to the file's arrays first.
    """

    title: str
    mark: str
    rows: Sequence[Row]
    first: int = 0
    aliases: Sequence[tuple[str, str]] = ()
    prepare: Callable[[Arrays], Arrays] = lambda arrays: arrays

    def matches(self, arrays: Arrays) -> bool:
        """Whether a file's arrays have these names."""
        return any(_numbers(self.mark, self._spell(name)) is not None for name in arrays)

    def read(self, arrays: Arrays, model) -> Iterator[tuple[str, str, np.ndarray]]:
        """(the file's name, our name, array); a name that is not in the table is kept.

        Raises:
          ValueError: an array's shape is impossible for this model; the message names it.
        """
        for theirs, array in self.prepare(arrays).items():
            spelled = self._spell(theirs)
            for row in self.rows:
                if (numbers := _numbers(row.theirs, spelled)) is not None:
                    break
            else:
                yield theirs, theirs, array
                continue
            try:
                converted = row.layout.ours(array, model)
            except (ValueError, IndexError):
                ours = ", ".join(row.all_ours).format(*numbers)
                raise ValueError(
                    f"{theirs} has shape {array.shape}, which cannot be converted to {ours}"
                ) from None
            numbers = [number - self.first for number in numbers]
            parts = converted if len(row.all_ours) > 1 else [converted]
            for ours, part in zip(row.all_ours, parts, strict=True):
                yield theirs, ours.format(*numbers), part

    def write(self, arrays: Arrays, model) -> Arrays:
        """Our arrays under the file's names.

        Raises:
          KeyError: our name of an array that the file has no name for.
        """
        found, left = {}, dict(arrays)
        for name in arrays:
            if name not in left:
                continue
            row, numbers = self._row_of(name)
            parts = [left.pop(ours.format(*numbers)) for ours in row.all_ours]
            array = np.stack(parts) if len(parts) > 1 else parts[0]
            theirs = row.theirs.format(*(number + self.first for number in numbers))
            found[theirs] = row.layout.theirs(array, model)
        return found

    def _row_of(self, ours: str) -> tuple[Row, list[int]]:
        for row in self.rows:
            for template in row.all_ours:
                if (numbers := _numbers(template, ours)) is not None:
                    return row, numbers
        raise KeyError(ours)

    def _spell(self, name: str) -> str:
        for pattern, replacement in self.aliases:
            name = re.sub(pattern, replacement, name)
        return name


@dataclasses.dataclass(frozen=True)
class Family:
    """The files of one model class.

    Attributes:
      name: of the class.
      tables: the first has the published names, used to write .npz files; the last has timm's, used
        to write .safetensors.
      patches: our arrays -> how many patches they are for, or None if the array that shows it is
        missing. None for a family whose parameters do not depend on the grid.
      mixes_tokens: whether the parameters that depend on the grid are the blocks' `token_mixing`.
      sizes: our arrays -> the model fields that their shapes determine.
    """

    name: str
    tables: Sequence[NameTable]
    patches: Callable[[Arrays], int | None] | None = None
    mixes_tokens: bool = False
    sizes: Callable[[Arrays], dict[str, int]] = lambda arrays: {}


def from_timm(name: str, mark: str, rows: Sequence[Row], mixing: str = "") -> Family:
    """A family published only in timm's form: an .npz file has the names of our tree.

    Args:
      mark: our template of the array that identifies either table.
      mixing: how the name of the `token_mixing` bias [S] ends, if there is one.
    """
    (theirs,) = (row.theirs for row in rows if row.ours == mark)
    own = [Row(row.ours, row.ours) for row in rows]
    tables = (NameTable("our own names", mark, own), NameTable("timm's names", theirs, rows))
    return Family(name, tables, size_of(mixing) if mixing else None, mixes_tokens=bool(mixing))


def size_of(end: str) -> Callable[[Arrays], int | None]:
    """arrays -> the size of the one whose name ends with `end`, or None."""
    return lambda arrays: next((v.size for name, v in arrays.items() if name.endswith(end)), None)


@functools.cache
def _pattern(template: str) -> re.Pattern:
    literals = map(re.escape, re.split(r"\{[^}]*\}", template))
    return re.compile("([0-9]+)".join(literals))


def _numbers(template: str, name: str) -> list[int] | None:
    """The numbers with which the template gives exactly this name; None if there are none."""
    match = _pattern(template).fullmatch(name)
    numbers = [int(number) for number in match.groups()] if match else []
    return numbers if match and template.format(*numbers) == name else None
