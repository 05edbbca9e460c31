"""Which columns of a Parquet file are the images and the labels."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from mixer import errors
from mixer.data.sources.label_kinds import column_names

_IMAGE = ("image", "img")
_LABEL = ("label", "labels", "class", "target", "cls")
_PATHS = ("path", "image_path", "file_name", "file", "filename")


def described(schema: pa.Schema) -> dict[str, Any]:
    """What Hugging Face's `datasets` writes about the columns; {} if it did not write the file."""
    try:
        found = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    except (TypeError, KeyError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def feature(features: dict, column: str) -> dict:
    """The feature of a column, or of the elements of its lists."""
    found = features.get(column, {})
    if isinstance(found, list) and found:
        found = found[0]
    while isinstance(found, dict) and isinstance(found.get("feature"), dict):
        found = found["feature"]
    return found if isinstance(found, dict) else {}


def class_names(schema: pa.Schema, column: str) -> tuple[str, ...]:
    """The names of the classes that the numbers in a column mean; () if none are known."""
    return tuple(feature(described(schema), column).get("names") or ())


def image_column(file: Path, schema: pa.Schema, features: dict, key: str) -> str:
    """The column of the images; see `_column`."""
    return _column(file, schema, features, "image", key)


def label_columns(file: Path, schema: pa.Schema, features: dict, key: str) -> tuple[str, ...]:
    """The column of the labels, or several columns of numbers.

    Raises:
      BadInput: see `_column`; or one of several has something else than numbers.
    """
    found = column_names(key)
    if len(found) < 2 or key in schema.names:
        return (_column(file, schema, features, "label", key),)
    for column in found:
        _column(file, schema, features, "label", column)
        kind = schema.field(column).type
        if plain(kind) not in (pa.int64(), pa.float64()):
            raise errors.BadInput(
                f"{file}: column {column} is {kind}: expected numbers, as "
                f"config.input.label_key={key} names several columns"
            )
    return found


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
        found = [n for n in schema.names if feature(features, n).get("_type") == "Image"]
        found = found or [f.name for f in schema if _holds_bytes(f.type)]
        found = found or [f.name for f in schema if f.name in _IMAGE + _PATHS and _is_text(f.type)]
    else:
        found = [n for n in schema.names if feature(features, n).get("_type") == "ClassLabel"]
        found = found or [n for n in schema.names if n in _LABEL]
    usual = _IMAGE if what == "image" else _LABEL
    best = found if len(found) == 1 else [n for n in usual if n in found][:1]
    if not best:
        said = f"{' and '.join(found)} may be it" if found else "none is known to be it"
        raise errors.BadInput(
            f"{file}: which column is the {what}? {said}. Set config.input.{what}_key to one of "
            f"the columns: {', '.join(schema.names)}"
        )
    if schema.names.count(best[0]) > 1:
        raise errors.BadInput(f"{file} has several columns {best[0]!r}: rename or remove one")
    kind = schema.field(best[0]).type
    if what == "label" and not _is_label(kind):
        raise errors.BadInput(
            f"{file}: column {best[0]} is {kind}, not a label: expected integers, text or floats. "
            f"Set config.input.label_key to another of the columns: {', '.join(schema.names)}"
        )
    if what == "image" and not (_holds_bytes(kind) or _is_text(kind)):
        raise errors.BadInput(
            f"{file}: column {best[0]} is {kind}, not an image: expected bytes, a struct of bytes "
            f"and path, or text. Set config.input.image_key to another of the columns: "
            f"{', '.join(schema.names)}"
        )
    return best[0]


def plain(kind: pa.DataType) -> pa.DataType:
    """The type without what makes no difference here: sizes, views, dictionaries, nullability."""
    types = pa.types
    if types.is_dictionary(kind):
        return plain(kind.value_type)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return pa.list_(plain(kind.value_type))
    if types.is_struct(kind):
        return pa.struct([(field.name, plain(field.type)) for field in kind])
    for common, tests in _COMMON.items():
        if any(is_one(kind) for is_one in tests):
            return common
    return kind


_COMMON = {
    pa.int64(): (pa.types.is_integer,),
    pa.float64(): (pa.types.is_floating,),
    pa.string(): (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view),
    pa.binary(): (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view),
}


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _holds_bytes(kind.field("bytes").type)
    return plain(kind) == pa.binary()


def _is_text(kind: pa.DataType) -> bool:
    return plain(kind) == pa.string()


def _element(kind: pa.DataType) -> pa.DataType:
    """The plain type of a label, or of the elements if it is a list."""
    kind = plain(kind)
    return kind.value_type if pa.types.is_list(kind) else kind


def _is_label(kind: pa.DataType) -> bool:
    return _element(kind) in (pa.int64(), pa.string(), pa.float64())


def are_vectors(schema: pa.Schema, label: tuple[str, ...]) -> bool:
    """Whether the label in these columns is a vector of numbers."""
    return len(label) > 1 or _element(schema.field(label[0]).type) == pa.float64()
