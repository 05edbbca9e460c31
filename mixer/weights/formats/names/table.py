"""How files name and lay out a family's arrays: tables of templates, read in both directions.

In a template {0} and {1} stand for numbers, those of blocks and the like, which are the same in all
templates of a row: "encoderblock_{0}/cls" and "blocks.{0}.cls"; {1:02} has two digits.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

Arrays = dict[str, np.ndarray]


class Turn(NamedTuple):
    """How an array lies in a file: (array, model) -> array, from there to ours, and back."""

    ours: Callable[[np.ndarray, Any], np.ndarray] = lambda array, model: array
    theirs: Callable[[np.ndarray, Any], np.ndarray] = lambda array, model: array


AS_IS = Turn()
SQUEEZED = Turn(ours=lambda array, model: array.squeeze())
# A Dense kernel is [out, in] there, a convolution's [out, in, height, width].
TORCH_KERNEL = Turn(
    ours=lambda array, model: array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T,
    theirs=lambda array, model: array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T,
)
# A Dense kernel is a convolution's of 1 x 1 there.
TORCH_1X1 = Turn(lambda a, m: a[:, :, 0, 0].T, lambda a, m: a.T[:, :, None, None])


class Row(NamedTuple):
    """One kind of array.

    Attributes:
      ours: template of our name; several, if their array is all of these, stacked by `turn.theirs`.
      theirs: template of their name.
    """

    ours: str | tuple[str, ...]
    theirs: str
    turn: Turn = AS_IS

    @property
    def all_ours(self) -> tuple[str, ...]:
        """`ours`, one or several."""
        return (self.ours,) if isinstance(self.ours, str) else self.ours


def torch_rows(*rows: tuple) -> tuple[Row, ...]:
    """Rows of PyTorch's names; kernels that say no turn are `TORCH_KERNEL`."""
    found = (Row(*row) for row in rows)
    return tuple(
        row._replace(turn=TORCH_KERNEL)
        if row.turn is AS_IS and isinstance(row.ours, str) and row.ours.endswith("kernel")
        else row
        for row in found
    )


@dataclasses.dataclass(frozen=True)
class NameTable:
    """One kind of file of a family.

    Attributes:
      title: of the names, for messages.
      mark: template of an array that the family's other tables do not have.
      rows: the table.
      first: the number there of what is number 0 with us.
      aliases: (regular expression, replacement) that make other spellings those of the table.
      prepare: their arrays, before all else.
    """

    title: str
    mark: str
    rows: Sequence[Row]
    first: int = 0
    aliases: Sequence[tuple[str, str]] = ()
    prepare: Callable[[Arrays], Arrays] = lambda arrays: arrays

    def holds(self, arrays: Arrays) -> bool:
        """Whether the arrays of a file are named so."""
        return any(_numbers(self.mark, self._spell(name)) is not None for name in arrays)

    def read(self, arrays: Arrays, model) -> Iterator[tuple[str, str, np.ndarray]]:
        """(their name, ours, array); what the table does not hold keeps its name.

        Raises:
          ValueError: an array that cannot lie so for this model; it names it.
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
                turned = row.turn.ours(array, model)
            except (ValueError, IndexError):
                ours = ", ".join(row.all_ours).format(*numbers)
                raise ValueError(
                    f"{theirs} has shape {array.shape}: no {ours} can be made of that"
                ) from None
            numbers = [number - self.first for number in numbers]
            parts = turned if len(row.all_ours) > 1 else [turned]
            for ours, part in zip(row.all_ours, parts, strict=True):
                yield theirs, ours.format(*numbers), part

    def write(self, arrays: Arrays, model) -> Arrays:
        """Our arrays under their names.

        Raises:
          KeyError: our name of an array that has no place there.
        """
        found, left = {}, dict(arrays)
        for name in arrays:
            if name not in left:
                continue
            row, numbers = self._row_of(name)
            parts = [left.pop(ours.format(*numbers)) for ours in row.all_ours]
            array = np.stack(parts) if len(parts) > 1 else parts[0]
            theirs = row.theirs.format(*(number + self.first for number in numbers))
            found[theirs] = row.turn.theirs(array, model)
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
    """What is known of the files of one class of models.

    Attributes:
      name: of the class.
      tables: the published one, in which .npz files are written, first; timm's, that of
        .safetensors, last.
      patches: our arrays -> for how many patches they are, or None where they lack what says so;
        None of a family whose parameters depend on no grid.
      mixes_tokens: whether what depends on the grid are the blocks' `token_mixing`.
      sizes: our arrays -> the model's fields that their shapes tell.
    """

    name: str
    tables: Sequence[NameTable]
    patches: Callable[[Arrays], int | None] | None = None
    mixes_tokens: bool = False
    sizes: Callable[[Arrays], dict[str, int]] = lambda arrays: {}


def from_timm(name: str, mark: str, rows: Sequence[Row], mixing: str = "") -> Family:
    """A family published in timm's form alone: an .npz file has the names of our tree.

    Args:
      mark: our template of an array by which each of the two is known.
      mixing: the end of the name of a bias [S] in `token_mixing`, where there is any.
    """
    (theirs,) = (row.theirs for row in rows if row.ours == mark)
    own = [Row(row.ours, row.ours) for row in rows]
    tables = (NameTable("our own names", mark, own), NameTable("timm's names", theirs, rows))
    return Family(name, tables, size_of(mixing) if mixing else None, mixes_tokens=bool(mixing))


def size_of(end: str) -> Callable[[Arrays], int | None]:
    """arrays -> the size of one whose name ends so, or None."""
    return lambda arrays: next((v.size for name, v in arrays.items() if name.endswith(end)), None)


@functools.cache
def _pattern(template: str) -> re.Pattern:
    literals = map(re.escape, re.split(r"\{[^}]*\}", template))
    return re.compile("([0-9]+)".join(literals))


def _numbers(template: str, name: str) -> list[int] | None:
    """The numbers for which the template is this very name."""
    match = _pattern(template).fullmatch(name)
    numbers = [int(number) for number in match.groups()] if match else []
    return numbers if match and template.format(*numbers) == name else None
