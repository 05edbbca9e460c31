"""`manifest:FILE`: a CSV or TSV table, or JSON lines, with paths and labels."""

import contextlib
import csv
import functools
import json
import math
import posixpath
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mixer import errors
from mixer.data.sources import image_files, label_kinds, splits, tar_members
from mixer.data.sources.collection import Collection, Files, Part
from mixer.data.sources.entry import Entry, checked_name

_ARCHIVE = "::"
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_COLUMNS = ("path", "label", "labels", "split")
# Other common names of these columns.
_ALSO = {
    "path": "image images img file files filename file_name filepath file_path image_path",
    "label": "class classname class_name class_id category target id",
}


class Manifest:
    """FILE.csv, FILE.tsv (with a header) or FILE.jsonl; `path`, `label` or `labels`, and `split`.

    A path is relative to FILE's folder, or absolute, or `archive.tar::member`. `label` is one
    class; `labels` any number: a list in JSON, separated by ";" in a table. `split` is optional.
    The key is the path as written. The separator of a .csv file is the one that makes `path` a
    column. Rows of one archive should be adjacent: only the last few archives' lists are cached.

    Args:
      path: of FILE.
      columns: of numbers, which are read as the label instead; a single one may have lists in JSON.

    Attributes:
      unread: the columns that were not read, once there are entries.
    """

    def __init__(self, path: str, columns: Sequence[str] = ()):
        self._columns = tuple(columns)
        self.path = Path(path).expanduser().absolute()
        self.unread: dict[str, None] = {}
        self._kind = self.path.suffix.lower()
        if self._kind not in image_files.TABLES:
            raise errors.BadInput(
                f"manifest {path!r}: expected a file that ends in "
                f"{', '.join(image_files.TABLES)}; save a sheet of a workbook as CSV UTF-8"
            )
        if not self.path.is_file():
            raise errors.Missing(f"manifest {path!r}: no file {self.path}")

    def outputs(self, label: str | tuple) -> tuple[str, ...]:
        """The names of the numbers in a label; () if labels are classes."""
        several = len(self._columns) == 1 and len(label) > 1
        return label_kinds.numbered(len(label)) if several else self._columns

    def splits(self) -> set[str]:
        """What the rows call their splits; "" where none is given.

        Raises:
          BadInput: a split is not text.
        """
        found = set()
        for line, row in self._rows():
            with self._at(line):
                found.add(_split(row))
        return found

    def entries(self) -> Iterator[Entry]:
        """Every row.

        Raises:
          BadInput: a row is invalid; the message has its line number.
        """
        read = {"path", "split", *(self._columns or _COLUMNS)}
        self.unread = {}
        for line, row in self._rows():
            self.unread |= {f"column {name!r}": None for name in row if name not in read}
            with self._at(line):
                entry = self._entry(row)
            yield entry

    @contextlib.contextmanager
    def _at(self, line: int) -> Iterator[None]:
        """Names the line in the errors of reading it."""
        try:
            yield
        except (TypeError, ValueError, errors.BadInput) as error:
            raise errors.BadInput(f"{self.path}, line {line}: {error}") from None

    def _rows(self) -> Iterator[tuple[int, dict]]:
        return self._jsonl() if self._kind == ".jsonl" else self._table()

    def _table(self) -> Iterator[tuple[int, dict]]:
        with self.path.open(encoding="utf-8-sig", newline="") as file:
            line = 1
            try:
                separator = self._separator(file.readline())
                file.seek(0)
                table = csv.reader(file, delimiter=separator, strict=True)
                columns = [column.strip() for column in next(table)]
                if twice := [c for c in (*_COLUMNS, *self._columns) if columns.count(c) > 1]:
                    raise errors.BadInput(f"{self.path} has several columns {twice[0]!r}")
                for values in table:
                    line = table.line_num
                    if not values:
                        continue
                    if len(values) != len(columns):
                        raise errors.BadInput(
                            f"{self.path}, line {line}: {len(values)} columns, but the header has "
                            f"{len(columns)}: put values with a separator in double quotes"
                        )
                    row = dict(zip(columns, values, strict=True))
                    if "labels" in row:
                        row["labels"] = [part for part in row["labels"].split(";") if part.strip()]
                    yield line, row
            except UnicodeDecodeError as error:  # of a block of lines
                at = error.object[error.start :].split()[0]
                fix = "save it as CSV UTF-8 (from Latin-1: iconv -f LATIN1 -t UTF-8)"
                raise errors.BadInput(f"{self.path} is not UTF-8, from {at!r} on: {fix}") from None
            except csv.Error as error:
                raise errors.BadInput(f"{self.path}, line {line}: {error}") from None

    def _separator(self, header: str) -> str:
        """The separator with which `path` is one of the header's columns."""
        known = "\t" if self._kind == ".tsv" else "".join(_SEPARATORS)
        split = {s: [c.strip() for c in next(csv.reader([header], delimiter=s), [])] for s in known}
        found = [s for s, columns in split.items() if "path" in columns]
        if len(found) == 1:
            return found[0]
        separator = max(split, key=lambda s: len(split[s]))
        raise errors.BadInput(
            f"{self.path}: its first line, split at {_SEPARATORS[separator]}, is "
            f"{', '.join(split[separator])!r}: {_column_hint(split[separator])}"
        )

    def _jsonl(self) -> Iterator[tuple[int, dict]]:
        with self.path.open("rb") as file:
            for line, text in enumerate(file, 1):
                if not text.strip():
                    continue
                try:
                    row = json.loads(text)
                except ValueError as error:
                    raise errors.BadInput(f"{self.path}, line {line}: {error}") from None
                if not isinstance(row, dict):
                    raise errors.BadInput(f"{self.path}, line {line}: expected a JSON object")
                yield line, row

    def _label(self, row: dict) -> str | tuple[str, ...] | tuple[float, ...]:
        if self._columns:
            return _numbers(row, self._columns)
        label, several = row.get("label"), row.get("labels")
        if label in (None, "") and several is None:
            missing = "label" not in row and "labels" not in row
            raise ValueError(_column_hint(row) if missing else "it has no label: leave the row out")
        if label is not None and several is not None:
            raise ValueError("expected either 'label' or 'labels', not both")
        if several is None:
            return _class_name(label)
        if isinstance(several, list):
            return tuple(dict.fromkeys(map(_class_name, several)))
        raise ValueError(f"labels {several!r}: expected a list")

    def _entry(self, row: dict) -> Entry:
        if "path" not in row:
            raise ValueError(_column_hint(row))
        found = self._label(row)
        archive, inside, member = _text(row["path"], "path").partition(_ARCHIVE)
        if "://" in archive:
            raise ValueError(f"path {archive!r}: expected a file on this machine")
        if "\\" in archive and not (self.path.parent / archive).exists():
            slashes = archive.replace("\\", "/")
            raise ValueError(f"path {archive!r}: no such file: write it as {slashes!r}")
        key = posixpath.normpath(checked_name(archive, "path"))
        file = str(self.path.parent / key)
        place = ()
        if inside:
            key, place = f"{key}{_ARCHIVE}{member}", _members(file).get(member)
            if place is None:
                raise ValueError(f"{file} has no image {member!r}")
        return Entry(key, _split(row), found, str(file), *place)


def collect(path: str, image_key: str = "", label_key: str = "") -> Collection:
    """The rows of FILE, which are `train` where no split is given.

    Args:
      label_key: columns of numbers, with commas between them; "": labels are classes.

    Raises:
      BadInput: a row is invalid, two of a split have the same path, or the images' column is
        chosen.
    """
    name = f"manifest:{path}"
    if image_key:
        raise errors.BadInput(
            f"config.input.image_key={image_key}: the images' column of a manifest is called path: "
            f"rename yours, and leave the key empty"
        )
    manifest = Manifest(path, label_kinds.column_names(label_key))
    listed: dict[str, dict[str, Entry]] = {}
    outputs: tuple[str, ...] = ()
    for entry in manifest.entries():
        outputs = outputs or manifest.outputs(entry.labels)
        split = splits.meaning(entry.split) or entry.split or splits.TRAIN
        if listed.setdefault(split, {}).setdefault(entry.key, entry) is not entry:
            raise errors.BadInput(f"{manifest.path} has several rows of {split} for {entry.key!r}")
    parts = {
        split: Part(list(rows), [e.labels for e in rows.values()], Files(list(rows.values())))
        for split, rows in listed.items()
    }
    return Collection(
        name, parts, files=(manifest.path,), unread=tuple(manifest.unread), outputs=outputs
    )


def split_names(path: str) -> set[str]:
    """The splits of the rows."""
    return {splits.meaning(split) or split or splits.TRAIN for split in Manifest(path).splits()}


def _column_hint(columns: Iterable[str]) -> str:
    """Says which columns are missing, and which existing ones to rename."""
    existing, said = list(columns), []
    for wanted, message in (
        ("path", "no 'path'"),
        ("label", "expected either 'label' or 'labels'"),
    ):
        if wanted in existing or (wanted == "label" and "labels" in existing):
            continue
        near = [c for c in existing if c.strip().lower() in (wanted, *_ALSO[wanted].split())]
        said.append(message + (f" (rename {near[0]!r})" if near else ""))
    numbers = "; config.input.label_key=X,Y reads columns of numbers" if "path" in existing else ""
    return f"{' and '.join(said)} among {', '.join(map(repr, existing))}{numbers}"


def _text(value, what: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{what} {value!r}: expected text")
    return value.strip()


def _split(row: dict) -> str:
    """What a row calls its split; "" for none."""
    split = row.get("split")
    return "" if split is None or split == "" else _text(split, "split")


def _numbers(row: dict, columns: Sequence[str]) -> tuple[float, ...]:
    """The numbers in these columns; a single one may have a list of them."""
    values = []
    for column in columns:
        if column not in row:
            raise errors.unknown("column in config.input.label_key", column, row)
        value = row[column]
        several = isinstance(value, list) and len(columns) == 1
        for each in value if several else (value,):
            try:
                if isinstance(each, bool):
                    raise ValueError
                values.append(float(each))
                if not math.isfinite(values[-1]):
                    raise ValueError
            except (TypeError, ValueError):
                raise ValueError(f"{column} {each!r}: {_no_number(each)}") from None
    return tuple(values)


def _no_number(value) -> str:
    """Says what to do about a value in a column of numbers."""
    word = str(value).strip().lower()
    if word in ("", "na", "n/a", "nan", "null", "none"):
        return "it has no number: leave the row out"
    if word in ("true", "false"):
        return "expected a number: write true as 1 and false as 0"
    fix = "config.input.label_key names columns of numbers; a column of classes is called label"
    return f"expected a number, as {fix}"


def _class_name(label) -> str:
    if isinstance(label, int) and not isinstance(label, bool):
        return str(label)
    return _text(label, "label")


@functools.lru_cache(maxsize=8)
def _members(archive: str) -> dict[str, tuple[int, int]]:
    found = {}
    for name, _, offset, size in tar_members.images(Path(archive), Counter()):
        if name in found:
            raise errors.BadInput(f"{archive} has two members {name!r}")
        found[name] = (offset, size)
    return found
