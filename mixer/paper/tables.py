"""The paper's tables with our results: "paper / ours / difference" as Markdown, CSV and LaTeX."""

import csv
import dataclasses
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from mixer.paper import published
from mixer.paper.rows import Row

_ACCURACIES = ("imagenet", "real", "avg5", "vtab", "fewshot", "accuracy")
_FORMS = {
    "throughput": ",.0f",
    "cost": ".3g",
    "params_millions_no_head": ".1f",
    "against_mixer": ".2f",
}


@dataclasses.dataclass(frozen=True)
class Cell:
    """One cell of a row.

    Attributes:
      paper, ours: numbers in the unit of the column, or text; None if there is none.
      std: sample standard deviation of ours over seeds, in the same unit.
      missing: folders of the runs that it still needs.
      comparable: False for throughput and cost on another device than the paper's.
    """

    paper: float | str | None
    ours: float | None
    std: float | None = None
    missing: tuple[str, ...] = ()
    comparable: bool = True

    @property
    def difference(self) -> float | None:
        """Ours minus the paper's; None if they are not comparable numbers."""
        known = self.comparable and not {type(self.paper), type(self.ours)} - {int, float}
        return self.ours - self.paper if known else None


def fill(row: Row, found: Mapping[str, Mapping[str, Any]]) -> dict[str, Cell]:
    """{column: cell} of a row.

    Args:
      found: {folder of a run: its results.json}.
    """
    cells = {}
    for column, paper in row.published.items():
        runs = [run for run in row.runs if column in run.fills]
        missing = tuple(run.folder for run in runs if run.folder not in found)
        ours = std = None
        comparable = column in _ACCURACIES or (
            bool(runs)
            and not missing
            and all(found[run.folder]["device_kind"] == "TPU v3" for run in runs)
        )
        if runs and not missing:
            values = [_value(found[run.folder], run.fills[column]) for run in runs]
            deviations = [_value(found[run.folder], f"{run.fills[column]}_std") for run in runs]
            ours, std = _mean(values), _deviation_of_mean(deviations)
        ours, std = _scaled(ours, column), _scaled(std, column)
        cells[column] = Cell(paper, ours, std, missing, comparable)
    return cells


def _value(results: Mapping[str, Any], metric: str) -> float | None:
    return results.get(metric) if "/" not in metric else results["metrics"].get(metric)


def _mean(values: Sequence[float | None]) -> float | None:
    return None if None in values else math.fsum(values) / len(values)


def _deviation_of_mean(deviations: Sequence[float | None]) -> float | None:
    """The standard deviation of the mean of independent numbers."""
    if None in deviations:
        return None
    return math.sqrt(math.fsum(d * d for d in deviations)) / len(deviations)


def _scaled(value: float | None, column: str) -> float | None:
    """Converts units of results.json to the paper's: percent, thousands of device-days."""
    if value is None:
        return None
    return value * 100 if column in _ACCURACIES else value / 1000 if column == "cost" else value


Filled = Sequence[tuple[Row, Mapping[str, Cell]]]


CAPTION = 'Each cell is "paper / ours / difference"; "-" means that there is no number.'


def texts(parts: Mapping[str, Filled], caption: str = CAPTION) -> dict[str, str]:
    """{file name: content}: all tables as Markdown, CSV and LaTeX."""
    return {
        "tables.md": f"{caption}\n\n"
        + "".join(f"## {part}\n\n{markdown(filled)}\n" for part, filled in parts.items()),
        "tables.csv": csv_text([each for filled in parts.values() for each in filled]),
        "tables.tex": f"% {caption}\n"
        + "".join(f"% {part}\n{latex(filled)}\n" for part, filled in parts.items()),
    }


def metrics(parts: Mapping[str, Filled]) -> dict[str, float | None]:
    """{"<part>/<row>/<column>": our number}: accuracies as fractions, others as in the table."""
    return {
        f"{row.part}/{row.label}/{column}": cell.ours / 100
        if column in _ACCURACIES and cell.ours is not None
        else cell.ours
        for filled in parts.values()
        for row, cells in filled
        for column, cell in cells.items()
    }


def markdown(filled: Filled) -> str:
    """A Markdown table of the rows of one part."""
    columns = list(filled[0][1])
    lines = [
        "| " + " | ".join(["", *map(published.title, columns)]) + " |",
        "| --- |" + " ---: |" * len(columns),
    ]
    for row, cells in filled:
        shown = [_shown(cells[c], c) for c in columns]
        lines.append("| " + " | ".join([row.label, *shown]) + " |")
    return "\n".join(lines) + "\n"


def latex(filled: Filled) -> str:
    r"""The same table as a LaTeX `tabular` (booktabs)."""
    columns = list(filled[0][1])
    lines = [
        r"\begin{tabular}{l" + "r" * len(columns) + "}",
        r"\toprule",
        " & ".join(["", *(published.title(c).replace("%", r"\%") for c in columns)]) + r" \\",
        r"\midrule",
    ]
    for row, cells in filled:
        shown = [_shown(cells[c], c).replace("±", r"$\pm$") for c in columns]
        lines.append(" & ".join([row.label.replace("_", r"\_"), *shown]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def csv_text(filled: Filled) -> str:
    """A CSV line per cell: part, row, column, paper, ours, std, difference, missing."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("part", "row", "column", "paper", "ours", "std", "difference", "missing"))
    for row, cells in filled:
        for column, cell in cells.items():
            numbers = (cell.paper, cell.ours, cell.std, cell.difference)
            given = ["" if n is None else n if isinstance(n, str) else f"{n:.6g}" for n in numbers]
            writer.writerow((row.part, row.label, column, *given, " ".join(cell.missing)))
    return text.getvalue()


def _shown(cell: Cell, column: str) -> str:
    form = ".2f" if column in _ACCURACIES else _FORMS.get(column, "g")

    def number(value, sign=""):
        if value is None:
            return "-"
        return value if isinstance(value, str) else f"{value:{sign}{form}}"

    spread = "" if cell.std is None else f" ± {number(cell.std)}"
    return f"{number(cell.paper)} / {number(cell.ours)}{spread} / {number(cell.difference, '+')}"
