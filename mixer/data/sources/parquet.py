"""`parquet:PATH`: tables of images and labels, as the Hugging Face Hub stores data sets."""

import bisect
import dataclasses
import functools
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mixer import errors
from mixer.data.sources import split_files
from mixer.data.sources.listed import Collection, Part, names
from mixer.data.sources.row_groups import GROUPS, HELD_BYTES

_ENDING = ".parquet"
_IMAGE = ("image", "img")
_LABEL = ("label", "labels", "class", "target", "cls")
_PATHS = ("path", "image_path", "file_name", "file", "filename")
_MAGIC = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg"}


def split_names(path: str) -> set[str]:
    """The splits that the names of the files tell."""
    return set(split_files.find("parquet", path, _ENDING))


def collect(path: str, image_key: str = "", label_key: str = "") -> Collection:
    """A file, or a folder of files; see `split_files.find` for their splits.

    An image is a struct {bytes, path} or bytes, or the path of a file, relative to the table's
    folder. A label is an integer, a text, or a list of these.

    Raises:
      BadInput: a file cannot be read, or the image or label column is missing or ambiguous.
    """
    name = f"parquet:{path}"
    files = split_files.find("parquet", path, _ENDING)
    parts, features, schema = {}, {}, None
    for split, several in files.items():
        tables = [_metadata(file) for file in several]
        for file, table in zip(several, tables, strict=True):
            found = table.schema.to_arrow_schema()
            if schema is None:
                schema, first, features = found, file, _features(found)
                image = _column(first, schema, features, "image", image_key)
                label = _column(first, schema, features, "label", label_key)
            elif any(
                n not in found.names or found.field(n) != schema.field(n) for n in (image, label)
            ):
                one, other = (
                    ", ".join(f"{field.name}: {field.type}" for field in each)
                    for each in (found, schema)
                )
                raise errors.BadInput(
                    f"{name}: {file} has the columns {one}, but {first} has {other}: are these "
                    f"several data sets? Name one of the files"
                )
        stored = Rows(tuple(map(str, several)), tuple(tables), image, schema.field(image).type)
        labels = _labels(several, label, features)
        parts[split] = Part(names(split, labels, _own_names(stored)), labels, stored)
    classes = tuple(_feature(features, label).get("names", ()))
    unread = tuple(f"column {n!r}" for n in schema.names if n not in (image, label))
    every = tuple(file for several in files.values() for file in several)
    return Collection(name, parts, classes, every, unread)


@dataclasses.dataclass(frozen=True)
class Rows:
    """The images of the rows of several files, read by row group.

    Attributes:
      column, kind: the image column and its type.
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
        sizes = [
            table.row_group(group).total_byte_size
            for table in self.tables
            for group in range(table.num_row_groups)
        ]
        if sum(sizes) <= HELD_BYTES:
            return ""
        return (
            f"; it is read in groups of {max(sizes) / 1e6:,.0f} MB, each for a single image of a "
            f"shuffled order: to train on it, prepare it once (config.run=prepare)"
        )


def _metadata(file: Path) -> pq.FileMetaData:
    try:
        return pq.read_metadata(file)
    except (OSError, pa.ArrowException) as error:
        raise errors.BadInput(f"{file} cannot be read as Parquet: {error}") from None


def _features(schema: pa.Schema) -> dict[str, Any]:
    """What Hugging Face's `datasets` writes about the columns; {} if it did not write the file."""
    try:
        return json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    except (TypeError, KeyError, ValueError):
        return {}


def _feature(features: dict, column: str) -> dict:
    """The feature of a column, or of the elements of its lists."""
    found = features.get(column, {})
    if isinstance(found, list) and found:
        found = found[0]
    while isinstance(found, dict) and isinstance(found.get("feature"), dict):
        found = found["feature"]
    return found if isinstance(found, dict) else {}


def _column(file: Path, schema: pa.Schema, features: dict, what: str, key: str) -> str:
    """The column of the images or the labels.

    Raises:
      BadInput: `key` is none, or none or several may be it.
    """
    if key:
        if key not in schema.names:
            raise errors.unknown(f"column of {file} in config.input.{what}_key", key, schema.names)
        found = [key]
    elif what == "image":
        found = [n for n in schema.names if _feature(features, n).get("_type") == "Image"]
        found = found or [f.name for f in schema if _holds_bytes(f.type)]
        found = found or [f.name for f in schema if f.name in _IMAGE + _PATHS and _is_text(f.type)]
    else:
        found = [n for n in schema.names if _feature(features, n).get("_type") == "ClassLabel"]
        found = found or [n for n in schema.names if n in _LABEL]
    usual = _IMAGE if what == "image" else _LABEL
    best = found if len(found) == 1 else [n for n in usual if n in found][:1]
    if not best:
        said = f"{' and '.join(found)} may be it" if found else "none is known to be it"
        raise errors.BadInput(
            f"{file}: which column is the {what}? {said}. Set config.input.{what}_key to one of "
            f"the columns: {', '.join(schema.names)}"
        )
    kind = schema.field(best[0]).type
    if what == "label" and not _is_label(kind):
        raise errors.BadInput(
            f"{file}: column {best[0]} is {kind}, not a label: expected integers or text. Set "
            f"config.input.label_key to another of the columns: {', '.join(schema.names)}"
        )
    if what == "image" and not (_holds_bytes(kind) or _is_text(kind)):
        raise errors.BadInput(
            f"{file}: column {best[0]} is {kind}, not an image: expected bytes, a struct of bytes "
            f"and path, or text. Set config.input.image_key to another of the columns: "
            f"{', '.join(schema.names)}"
        )
    return best[0]


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _holds_bytes(kind.field("bytes").type)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _is_label(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        kind = kind.value_type
    return pa.types.is_integer(kind) or _is_text(kind)


def _read(file: Path, column: str) -> list:
    try:
        table = pq.ParquetFile(file).read(columns=[column])
    except (OSError, pa.ArrowException) as error:
        raise errors.BadInput(f"{file}: column {column} cannot be read: {error}") from None
    values = table.column(0)
    if pa.types.is_struct(values.type):
        (values,) = values.flatten()
    return values.to_pylist()


def _labels(files: Sequence[Path], column: str, features: dict) -> list:
    """Class names, or numbers as text, of all rows."""
    classes = _feature(features, column).get("names", ())
    values = [(file, value) for file in files for value in _read(file, column)]

    def name(file: Path, row: int, value) -> str | None:
        if value is None or (classes and value == -1):  # how the Hub marks a split without labels
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


def _own_names(rows: Rows) -> list[str]:
    """The files' names where they are stored; else the ending that the first image's bytes tell."""
    count = sum(table.num_rows for table in rows.tables)
    kind = rows.kind
    inside = pa.types.is_struct(kind) and kind.get_field_index("path") >= 0
    if inside or _is_text(kind):
        column = f"{rows.column}.path" if inside else rows.column
        found = [path for file in rows.files for path in _read(Path(file), column)]
        if all(found):
            return [Path(p).name if Path(p).is_absolute() else p for p in found]
    start = rows.image(0) if count else b""
    ending = next((e for magic, e in _MAGIC.items() if start.startswith(magic)), ".bin")
    return [ending] * count
