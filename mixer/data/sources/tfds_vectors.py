"""Labels of TFDS datasets that are floats: the names of the numbers, and the kind of the vectors.

A dataset may record them in its metadata.json: {"vectors": {"FEATURE": {"outputs": [NAME, ...],
"kind": "distribution"}}}. Those that config.run=prepare makes do.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from mixer import errors, storage
from mixer.data.sources import label_kinds
from mixer.data.sources.collection import version_of
from mixer.data.sources.tfds_builder import Prepared

RECORD = "vectors"  # the entry of metadata.json
_FORMAT = 1  # of remembered kinds
_AT_ONCE = 256  # records, to learn their labels


def feature_of(outputs: Sequence[str]) -> tfds.features.Tensor:
    """The feature that stores these numbers, as float32."""
    if len(outputs) == 1:
        return tfds.features.Scalar(np.float32)
    return tfds.features.Tensor(shape=(len(outputs),), dtype=np.float32)


def size(feature: Any) -> int:
    """How many floats a feature has; 0 if it has another number of them each time, or others."""
    shape, kind = feature.shape, feature.np_dtype
    if not isinstance(shape, tuple) or len(shape) > 1 or None in shape:
        return 0
    return int(np.prod(shape)) if np.issubdtype(kind, np.floating) else 0


def outputs_of(prepared: Prepared, name: str) -> tuple[str, ...]:
    """The names of the numbers in the feature `name`; () if it has no floats.

    Raises:
      BadInput: the dataset records names that do not fit.
    """
    count = size(prepared.builder.info.features[name])
    given = _recorded(prepared, name).get("outputs") if count else None
    if given is None:
        return (name,) if count == 1 else label_kinds.numbered(count)
    fits = isinstance(given, list) and len(given) == len(set(map(str, given))) == count
    if not fits or not all(isinstance(each, str) for each in given):
        raise errors.BadInput(
            f"{_place(prepared)}: the outputs of {name} are {given!r}: expected {count} names"
        )
    return tuple(given)


def kind_of(prepared: Prepared, name: str) -> str:
    """The kind of the vectors in the feature `name`: as recorded, else judged by all splits.

    For that each record is read, once on this machine.

    Raises:
      BadInput: an unknown kind is recorded, or none of records in a bucket, or they cannot be read.
    """
    dataset, info = prepared.name, prepared.builder.info
    if (recorded := _recorded(prepared, name).get("kind")) is not None:
        if recorded not in label_kinds.VECTORS:
            known = f"kind of {name} in {_place(prepared)}"
            raise errors.unknown(known, str(recorded), label_kinds.VECTORS)
        return recorded
    if size(info.features[name]) == 1:
        return "values"  # a single number is never a probability
    if storage.is_remote(prepared.data_dir):
        raise errors.BadInput(
            f"dataset {dataset!r}: all of it would be fetched from its bucket to learn whether its "
            f"feature {name} is a distribution: write {_example(name)} into {_place(prepared)}, "
            f"where KIND is one of {', '.join(label_kinds.VECTORS)}"
        )
    try:
        files = [i.filename for split in info.splits.values() for i in split.file_instructions]
        return storage.remembered(
            "labels",
            (_FORMAT, RECORD, name, [version_of(str(file)) for file in files]),
            f"reading the labels of {dataset} to learn what they are",
            lambda: label_kinds.widest(_kinds(prepared, name)),
        )
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise errors.BadInput(f"dataset {dataset!r} cannot be read: {error}") from None


def _kinds(prepared: Prepared, name: str) -> Iterator[str]:
    for split in prepared.builder.info.splits:
        records = prepared.records(split)
        for start in range(0, len(records), _AT_ONCE):
            part = records.__getitems__(range(start, min(start + _AT_ONCE, len(records))))
            yield label_kinds.kind_of(np.array([record[name] for record in part], np.float32))


def _recorded(prepared: Prepared, name: str) -> Mapping[str, Any]:
    """What metadata.json says of the feature."""
    found = (prepared.builder.info.metadata or {}).get(RECORD, {})
    found = found.get(name, {}) if isinstance(found, Mapping) else found
    if not isinstance(found, Mapping):
        raise errors.BadInput(f"{_place(prepared)}: expected {_example(name)}")
    return found


def _example(name: str) -> str:
    return json.dumps({RECORD: {name: {"kind": "KIND"}}})


def _place(prepared: Prepared) -> str:
    below = os.path.relpath(prepared.builder.data_path, prepared.local)
    return f"{str(prepared.data_dir).rstrip('/')}/{below}/metadata.json"
