"""Finds the steps at which a training saw given examples (`config.replay.examples`)."""

import csv
import io
import time
from collections.abc import Callable

from etils import epath

from mixer import errors, storage
from mixer.data import drawn, sources
from mixer.data.sources import Source
from mixer.runs.training import Training
from mixer.training.console import format_duration

_REPORT_EVERY = 10.0  # seconds
_SHOWN = 10


def find(text: str, source: Source) -> list[int]:
    """The indices of examples given by index or by name, separated by commas.

    Raises:
      BadInput: there is no such example, or several have that name.
    """
    asked = [part.strip() for part in text.split(",") if part.strip()]
    names = [part for part in asked if not part.isdigit()]
    by_name = _by_name(names, source) if names else {}
    found = []
    for part in asked:
        indices = by_name[part] if part in by_name else [int(part)]
        if len(indices) != 1 or not indices[0] < len(source):
            known = part in by_name
            trouble = f"{len(indices)} examples have that name" if known else "no such example"
            raise errors.BadInput(
                f"config.replay.examples: {part!r}: {trouble}: expected an index of 0 to "
                f"{len(source) - 1:,}, or the file's name at the end of, for instance, "
                f"'{source.where(0)}'"
            )
        found += indices
    return list(dict.fromkeys(found))


def _by_name(names: list[str], source: Source) -> dict[str, list[int]]:
    found = {name: [] for name in names}
    report = _progress(len(source), "names read")
    for index in range(len(source)):
        where = source.where(index)
        for name in names:
            if where == name or where.endswith((f"/{name}", f" {name}")):
                found[name].append(index)
        report(index)
    return found


def write(examples: list[int], training: Training, path: epath.Path) -> dict[str, int]:
    """Prints when each example was seen, writes examples.csv, returns metrics for results.json."""
    if not examples:
        return {}
    rows, size = training.reader.rows, training.batch_size
    total = training.total * size
    found = drawn.when_seen(rows, examples, total, _progress(total, "positions of the order read"))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("index", "where", "step", "row", "counter", "epoch"))
    for index, counters in found.items():
        where = rows.where(index)
        places = [(g // size + 1, g % size) for g in counters]
        for (step, row), g in zip(places, counters, strict=True):
            writer.writerow((index, where, step, row, g, g // sources.epoch(rows.source)))
        shown = ", ".join(f"step {step:,} row {row}" for step, row in places[:_SHOWN])
        more = f", ... (all: {path / 'examples.csv'})" if len(places) > _SHOWN else ""
        print(f"{where}: seen {len(places):,} times in {training.total:,} steps: {shown}{more}")
    with storage.write_whole(path / "examples.csv") as file:
        file.write(text.getvalue().encode(errors="surrogateescape"))
    return {f"replay/example/{index}/times": len(counters) for index, counters in found.items()}


def _progress(total: int, what: str) -> Callable[[int], None]:
    """A function that prints the progress of a long scan every few seconds."""
    began = last = time.monotonic()

    def report(done: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last > _REPORT_EVERY:
            last = now
            left = format_duration((total - done) * (now - began) / done) if done else "unknown"
            print(f"{done:,} of {total:,} {what}, left {left}", flush=True)

    return report
