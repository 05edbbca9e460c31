"""`manifest:FILE`: a table of paths and labels, CSV or JSON lines."""

import csv
import functools
import json
import posixpath
from collections.abc import Iterator
from pathlib import Path

from mixer import errors
from mixer.data.prepare import tars
from mixer.data.prepare.entry import Entry, Reader, checked_name

_ARCHIVE = "::"


class ManifestReader(Reader):
    """FILE.csv (with a header) or FILE.jsonl; `path`, `label` or `labels`, and perhaps `split`.

    A path is relative to FILE's folder, or absolute, or `archive.tar::member`. `label` is one
    class; `labels` any number: a list in JSON, separated by ";" in CSV. The key is the path as
    written. Rows of one archive should stand together: the lists of the last few archives are
    kept.
    """

    integer_labels = True

    def __init__(self, path: str):
        self._path = Path(path).expanduser().absolute()
        if self._path.suffix not in (".csv", ".jsonl") or not self._path.is_file():
            raise errors.BadInput(f"manifest {path!r}: expected a file that ends in .csv or .jsonl")

    def files(self) -> Iterator[Path]:
        """The manifest; archives are added as they are met."""
        yield self._path

    def entries(self, scratch: Path) -> Iterator[Entry]:
        """Every row.

        Raises:
          BadInput: a row that cannot be understood, by its line.
        """
        rows = self._csv() if self._path.suffix == ".csv" else self._jsonl()
        for line, row in rows:
            try:
                yield self._entry(row)
            except (KeyError, TypeError, ValueError, errors.BadInput) as error:
                what = f"no {error.args[0]!r}" if isinstance(error, KeyError) else error
                raise errors.BadInput(f"{self._path}, line {line}: {what}") from None

    def _csv(self) -> Iterator[tuple[int, dict]]:
        with self._path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file, strict=True)
            try:
                for row in table:
                    if row.get("labels") is not None:
                        row["labels"] = [part for part in row["labels"].split(";") if part.strip()]
                    yield table.line_num, row
            except (csv.Error, UnicodeDecodeError) as error:
                raise errors.BadInput(f"{self._path}, line {table.line_num}: {error}") from None

    def _jsonl(self) -> Iterator[tuple[int, dict]]:
        with self._path.open("rb") as file:
            for line, text in enumerate(file, 1):
                try:
                    row = json.loads(text)
                except ValueError as error:
                    raise errors.BadInput(f"{self._path}, line {line}: {error}") from None
                if not isinstance(row, dict):
                    raise errors.BadInput(f"{self._path}, line {line}: expected an object")
                yield line, row

    def _entry(self, row: dict) -> Entry:
        label, labels = row.get("label"), row.get("labels")
        if (label is None) == (labels is None):
            raise ValueError("expected either 'label' or 'labels'")
        if labels is None:
            found = _class_name(label)
        elif isinstance(labels, list):
            found = tuple(dict.fromkeys(map(_class_name, labels)))
        else:
            raise ValueError(f"labels {labels!r}: expected a list")
        archive, inside, member = _text(row["path"], "path").partition(_ARCHIVE)
        key = posixpath.normpath(checked_name(archive, "path"))
        file = str(self._path.parent / key)
        place = ()
        if inside:
            key, place = f"{key}{_ARCHIVE}{member}", _members(file).get(member)
            if place is None:
                raise ValueError(f"{file} has no image {member!r}")
        split = row.get("split")
        split = _text(split, "split") if split else ""
        return Entry(key, split, found, str(file), *place)


def _text(value, what: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{what} {value!r}: expected text")
    return value.strip()


def _class_name(label) -> str:
    if isinstance(label, int) and not isinstance(label, bool):
        return str(label)
    return _text(label, "label")


@functools.lru_cache(maxsize=8)
def _members(archive: str) -> dict[str, tuple[int, int]]:
    found = {}
    for name, _, offset, size in tars.images(Path(archive)):
        if name in found:
            raise errors.BadInput(f"{archive} has two members {name!r}")
        found[name] = (offset, size)
    return found
