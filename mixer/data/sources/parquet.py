"""`parquet:PATH`: tables of images and labels, as the Hugging Face Hub stores data sets."""

import bisect
import dataclasses
import functools
import itertools
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mixer import errors
from mixer.data.sources import columns, split_files
from mixer.data.sources.collection import Collection, Part, names
from mixer.data.sources.label_kinds import numbered
from mixer.data.sources.row_groups import GROUPS, HELD_BYTES

_ENDING = ".parquet"
_MAGIC = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg"}


def split_names(path: str) -> set[str]:
    """The splits that the names of the files tell."""
    return set(split_files.find("parquet", path, _ENDING))


def collect(path: str, image_key: str = "", label_key: str = "") -> Collection:
    """A file, or a folder of files; see `split_files.find` for their splits.

    An image is a struct {bytes, path} or bytes, or the path of a file, relative to the table's
    folder. A label is an integer, a text, or a list of these; a float or a list of floats is a
    vector, and so are several columns of numbers.

    Args:
      image_key, label_key: the columns; several for the label with commas between them.

    Raises:
      BadInput: a file cannot be read, or the image or label column is missing or ambiguous.
    """
    name = f"parquet:{path}"
    files = split_files.find("parquet", path, _ENDING)
    every = tuple(file for several in files.values() for file in several)
    tables = {file: _metadata(file) for file in every}
    schemas = {file: table.schema.to_arrow_schema() for file, table in tables.items()}
    first = min(every, key=lambda file: _untold(schemas[file]))
    schema, features = schemas[first], columns.described(schemas[first])
    image = columns.image_column(first, schema, features, image_key)
    label = columns.label_columns(first, schema, features, label_key)
    vectors, classes = columns.are_vectors(schema, label), columns.class_names(schema, label[0])
    for file, found in schemas.items():
        _check_alike(f"{name}: {file}", found, str(first), schema, (image, *label))
    kind, parts = columns.plain(schema.field(image).type), {}
    for split, several in files.items():
        own = tuple(tables[file] for file in several)
        stored = Rows(tuple(map(str, several)), own, image, kind)
        labels = _vectors(several, label) if vectors else _labels(several, label[0], classes)
        parts[split] = Part(names(split, labels, _own_names(stored)), labels, stored)
    outputs = _outputs(label, parts) if vectors else ()
    unread = tuple(f"column {n!r}" for n in schema.names if n not in (image, *label))
    return Collection(name, parts, classes, every, unread, outputs)


@dataclasses.dataclass(frozen=True)
class Rows:
    """The images of the rows of several files, read by row group.

    Attributes:
      column, kind: the image column and its `columns.plain` type.
    """

    files: tuple[str, ...]
    tables: tuple[pq.FileMetaData, ...]
    column: str
    kind: pa.DataType

    @functools.cached_property
    def groups(self) -> tuple[list[tuple[int, int]], list[int]]:
        """(file, row group) of all row groups, and the row after the last one of each."""
        places = [
            (file, group)
            for file, table in enumerate(self.tables)
            for group in range(table.num_row_groups)
        ]
        sizes = (self.tables[file].row_group(group).num_rows for file, group in places)
        return places, list(itertools.accumulate(sizes))

    @functools.cached_property
    def sizes(self) -> list[int]:
        """Bytes of the images of each row group, undecoded."""
        found = []
        for table in self.tables:
            paths = [table.schema.column(i).path for i in range(len(table.schema))]
            own = [i for i, p in enumerate(paths) if f"{p}.".startswith(f"{self.column}.")]
            for group in map(table.row_group, range(table.num_row_groups)):
                found.append(sum(group.column(i).total_uncompressed_size for i in own))
        return found

    @property
    def largest(self) -> int:
        """Bytes of the images of the largest row group."""
        return max(self.sizes)

    def will_read(self, row: int) -> None:
        """Starts reading the row group of a row."""
        file, group, _ = self._find(row)
        GROUPS.start(self.files[file], self.tables[file], group, self.column)

    def _find(self, row: int) -> tuple[int, int, int]:
        """(file, row group, row in it)."""
        places, ends = self.groups
        found = bisect.bisect_right(ends, row)
        return *places[found], row - (ends[found - 1] if found else 0)

    def image(self, row: int) -> bytes:
        file, group, inside = self._find(row)
        value = GROUPS.get(self.files[file], self.tables[file], group, self.column)[inside].as_py()
        if isinstance(value, dict):
            value = value.get("bytes") or value.get("path")
        if isinstance(value, str):
            return (Path(self.files[file]).parent / value).read_bytes()
        if not value:
            raise ValueError(f"its column {self.column} is empty")
        return value

    def where(self, row: int) -> str:
        file, _, _ = self._find(row)
        return f"file {self.files[file]}, column {self.column}, row {row} of the split"

    @property
    def advice(self) -> str:
        """What to do if more is read than is kept in memory."""
        if sum(self.sizes) <= HELD_BYTES:
            return ""
        window = HELD_BYTES // (2 * self.largest)
        way = f"set config.input.shuffle=row_groups(window={window}), or " if window else ""
        return (
            f"; it is read in groups of {self.largest / 1e6:,.0f} MB, each for a single image of "
            f"the order full: to train on it, {way}prepare it once (config.run=prepare)"
        )


def _untold(schema: pa.Schema) -> tuple[int, bool]:
    """How many columns have no type, as all values are missing; and whether nothing describes them.

    Both are so in a split without labels, or in files that another program has written again.
    """
    return sum(pa.types.is_null(kind) for kind in schema.types), not columns.described(schema)


def _check_alike(
    where: str, found: pa.Schema, first: str, schema: pa.Schema, wanted: Sequence[str]
) -> None:
    """Refuses a file whose columns have other types than the first one's, or name other classes.

    A column in which all values are missing may have no type.
    """
    for column in wanted:
        kind = columns.plain(found.field(column).type) if found.names.count(column) == 1 else None
        if kind not in (columns.plain(schema.field(column).type), pa.null()):
            one, other = (
                ", ".join(f"{field.name}: {field.type}" for field in each)
                for each in (found, schema)
            )
            raise errors.BadInput(
                f"{where} has the columns {one}, but {first} has {other}: are these several data "
                f"sets? Name one of the files"
            )
        theirs, ours = (columns.class_names(each, column) for each in (found, schema))
        if theirs and theirs != ours:
            raise errors.BadInput(
                f"{where} names the classes {errors.shown(theirs)}, but {first} "
                f"{errors.shown(ours)}: a number would mean two classes. Name one of the files"
            )


def _metadata(file: Path) -> pq.FileMetaData:
    try:
        return pq.read_metadata(file)
    except (OSError, pa.ArrowException) as error:
        raise errors.BadInput(f"{file} cannot be read as Parquet: {error}") from None


def _read(file: Path, column: str) -> list:
    try:
        table = pq.ParquetFile(file).read(columns=[column])
    except (OSError, pa.ArrowException) as error:
        raise errors.BadInput(f"{file}: column {column} cannot be read: {error}") from None
    values = table.column(0)
    if pa.types.is_struct(values.type):
        (values,) = values.flatten()
    return values.to_pylist()


def _labels(files: Sequence[Path], column: str, classes: Sequence[str]) -> list:
    """Class names, or numbers as text, of all rows."""
    values = [(file, value) for file in files for value in _read(file, column)]

    def name(file: Path, row: int, value) -> str | None:
        # The Hub marks a split without labels by -1.
        if value is None or value == "" or (classes and value == -1):
            return None
        if classes and isinstance(value, int):
            if not 0 <= value < len(classes):
                raise errors.BadInput(
                    f"{file}, column {column}, row {row} of the split: label {value}: expected 0 "
                    f"to {len(classes) - 1}"
                )
            return classes[value]
        return str(value)

    return [
        tuple(name(file, row, each) for each in value)
        if isinstance(value, list)
        else name(file, row, value)
        for row, (file, value) in enumerate(values)
    ]


def _vectors(files: Sequence[Path], names: Sequence[str]) -> list[tuple[float, ...] | None]:
    """The numbers of all rows; None for a row without any."""
    values = [[v for file in files for v in _read(file, column)] for column in names]
    if len(names) == 1:
        whole = (v if isinstance(v, list) else None if v is None else [v] for v in values[0])
        return [None if row is None else tuple(row) for row in whole]
    return [None if set(row) == {None} else row for row in zip(*values, strict=True)]


def _outputs(names: tuple[str, ...], parts: dict[str, Part]) -> tuple[str, ...]:
    """The names of the numbers: of their columns, but in a list they have none."""
    size = next((len(row) for part in parts.values() for row in part.labels if row), 1)
    return names if size == len(names) else numbered(size)


def _own_names(rows: Rows) -> list[str]:
    """The files' names where they are stored; else the ending that the first image's bytes tell."""
    count = sum(table.num_rows for table in rows.tables)
    inside = pa.types.is_struct(rows.kind) and rows.kind.get_field_index("path") >= 0
    if inside or rows.kind == pa.string():
        column = f"{rows.column}.path" if inside else rows.column
        found = [path for file in rows.files for path in _read(Path(file), column)]
        if all(found):
            return [Path(p).name if Path(p).is_absolute() else p for p in found]
    try:
        start = rows.image(0) if count else b""
    except (OSError, ValueError):  # it is reported when it is used
        start = b""
    ending = next((e for magic, e in _MAGIC.items() if start.startswith(magic)), ".bin")
    return [ending] * count
