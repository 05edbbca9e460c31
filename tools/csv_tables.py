"""Tables of docs/results, as CSV and as Markdown."""

import csv
from collections.abc import Iterable
from pathlib import Path

RESULTS = Path(__file__).parents[1] / "docs" / "results"


def read(name: str) -> list[dict[str, str]]:
    """The lines of a table; none if the experiment was not run."""
    file = RESULTS / f"{name}.csv"
    return list(csv.DictReader(file.open())) if file.exists() else []


def write(name: str, lines: list[dict]) -> None:
    """Writes a table; a line is {column: value}, and may lack columns."""
    columns = list(max(lines, key=len))
    with (RESULTS / f"{name}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


def markdown(heading: Iterable[str], rows: Iterable[Iterable[str]], text: int = 1) -> str:
    """A table whose columns, except the first `text`, are numbers."""
    heading = list(heading)
    kinds = ["---"] * text + ["---:"] * (len(heading) - text)
    return "\n".join(f"| {' | '.join(line)} |" for line in (heading, kinds, *map(list, rows)))
