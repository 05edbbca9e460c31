"""The source of prepared TFDS datasets."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from mixer import errors, storage
from mixer.data.sources import label_kinds, splits, tfds_vectors
from mixer.data.sources.tfds_builder import open_prepared, published_names

_LABEL_FEATURES = ("label", "labels", "real_label")
# For TFDS's own datasets, which do not record it.
_MAX_LABELS = {"imagenet2012_real": 9}
_FORMAT = 1  # of remembered labels
_AT_ONCE = 256  # records, to learn their labels


@dataclasses.dataclass(frozen=True)
class TfdsSource:
    """A prepared TFDS dataset of images with labels, stored as ArrayRecord.

    If examples have several labels, the label feature is a sequence of class labels, and the
    dataset's metadata record `max_labels`, except for TFDS's `imagenet2012_real`. If the label is
    one or several floats, see tfds_vectors.py.

    Attributes:
      label_kind: of vectors, else ""; see label_kinds.py.
      labels: maps a stored label to the label in `classes`; (): they are the same. Of vectors,
        which of the stored numbers each of `classes` is.
      stored_in: (path, first record, records) of its files, if they are local.
    """

    name: str
    split: str
    classes: Sequence[str]
    records: Any
    image_feature: str = "image"
    label_feature: str = "label"
    max_labels: int = 0
    label_kind: str = ""
    remote: bool = False
    published: bool = False
    labels: tuple[int, ...] = ()
    stored_in: tuple[tuple[str, int, int], ...] = ()

    @classmethod
    def open(
        cls,
        dataset: str,
        split: str,
        data_dir: Path | str,
        also_known: Sequence[str] = (),
        *,
        classes: Sequence[str] = (),
        num_classes: int | None = None,
        image_key: str = "",
        label_key: str = "",
    ) -> "TfdsSource":
        """See `sources.open_source` and `open_prepared`.

        Args:
          classes: the names in label order, used if they include the stored names or if none are
            stored.
          num_classes: the number of classes, if labels are numbers without names.
          image_key, label_key: the features; by default image, and label, labels or real_label.
        """
        with open_prepared(dataset, data_dir, also_known) as prepared:
            builder = prepared.builder
            features = builder.info.features
            image, label = _features(dataset, features, image_key, label_key)
            sizes = {name: info.num_examples for name, info in builder.info.splits.items()}
            split = splits.as_spelled(split, sizes)
            ranges = splits.absolute_ranges(dataset, split, sizes)
            if not any(len(range(sizes[part])[chosen]) for part, chosen in ranges):
                raise errors.BadInput(
                    f"dataset {dataset!r}: split {split!r} contains no examples; the dataset has "
                    f"{splits.listed(sizes)}"
                )
            records = prepared.records(split)
            several = isinstance(features[label], tfds.features.Sequence)
            instructions = builder.info.splits[split].file_instructions
            kind = ""
            if outputs := tfds_vectors.outputs_of(prepared, label):
                several, kind = False, tfds_vectors.kind_of(prepared, label)
                names, labels = label_kinds.order_of(outputs, classes)
            else:
                names, labels = _classes(dataset, features, label, classes, num_classes)
            return cls(
                name=dataset,
                split=split,
                classes=tuple(names),
                records=records,
                image_feature=image,
                label_feature=label,
                max_labels=_max_labels(dataset, builder) if several else 0,
                label_kind=kind,
                remote=storage.is_remote(data_dir),
                published=builder.name in published_names(),
                labels=tuple(labels),
                stored_in=tuple((str(i.filename), i.skip, i.take) for i in instructions),
            )

    @property
    def ranges(self) -> list[tuple[str, range]]:
        """(file, which of its records) in the order of the examples."""
        return [(path, range(skip, skip + take)) for path, skip, take in self.stored_in]

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._example(self.records[index])

    def read(self, start: int, stop: int) -> list[dict[str, Any]]:
        """Examples start ... stop-1, read together."""
        return [self._example(r) for r in self.records.__getitems__(range(start, stop))]

    def every_label(self) -> list[int]:
        """The labels of all examples, for which each record is read, once on this machine.

        Raises:
          BadInput: the records are in a bucket.
        """
        if self.remote:
            raise errors.BadInput(
                f"{self.name} {self.split}: its labels are stored beside the images, and so all of "
                f"it would be fetched from its bucket to learn them: use a copy on a disk "
                f"(config.runtime.data_dir)"
            )
        files = [(path, *part, *_status(path)) for path, *part in self.stored_in]
        stored = storage.remembered(
            "labels",
            (_FORMAT, self.label_feature, files),
            f"reading the labels of {self.name} {self.split} ({len(self):,} images)",
            lambda: [
                int(record[self.label_feature])
                for start in range(0, len(self), _AT_ONCE)
                for record in self.records.__getitems__(
                    range(start, min(start + _AT_ONCE, len(self)))
                )
            ],
        )
        return [self._label_of(label) for label in stored]

    def _example(self, record: dict[str, Any]) -> dict[str, Any]:
        image = record[self.image_feature]
        if image is None:  # ArrayRecord returns empty records beyond a file's end
            raise ValueError("the record is empty: its file is truncated")
        label = record[self.label_feature]
        if self.label_kind:
            numbers = np.ravel(label).tolist()
            return {"image": image, "label": tuple(numbers[i] for i in self.labels)}
        if not self.max_labels:
            return {"image": image, "label": self._label_of(int(label))}
        return {
            "image": image,
            "label": [self._label_of(each) for each in label] if self.labels else label,
        }

    def _label_of(self, label: int) -> int:
        if not self.labels:
            return label
        return self.labels[label] if 0 <= label < len(self.labels) else -1

    def where(self, index: int) -> str:
        record = self.records[index]
        file = record.get("file_name")
        named = f", file {os.fsdecode(file)}" if file else ""
        return f"dataset {self.name}, split {self.split}, example {index}{named}"


def _status(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns


def _classes(
    dataset: str, features: Any, label: str, classes: Sequence[str], num_classes: int | None
) -> tuple[Sequence[str], tuple[int, ...]]:
    """The names of the classes, and the map from stored labels to these, as from `_by_name`."""
    stored = getattr(features[label], "feature", features[label])
    if hasattr(stored, "names"):
        labels = _by_name(stored.names, classes)
        return classes if labels else stored.names, labels
    if not np.issubdtype(stored.np_dtype, np.integer) or stored.shape:
        others = sorted(set(features) - {label})
        fix = f"set config.input.label_key to another of its features, {', '.join(others)}"
        if isinstance(stored, tfds.features.Text):
            fix += (
                ". A text is one if the dataset's builder declares it as ClassLabel(names=...), or "
                "in a folder, a manifest or Parquet, which config.run=prepare takes"
            )
        raise errors.BadInput(
            f"dataset {dataset!r}: its feature {label} is {features[label]!r}, not a label (a "
            f"class, a list of classes, an integer, or a fixed number of floats): {fix}"
        )
    names = classes or tuple(map(str, range(num_classes or 0)))
    if not names:
        raise errors.BadInput(
            f"dataset {dataset!r}: its feature {label} is a number, and the number of classes is "
            f"not recorded: set config.model.num_classes, or config.input.class_names to a file "
            f"with their names"
        )
    return names, ()


def _by_name(stored: Sequence[str], classes: Sequence[str]) -> tuple[int, ...]:
    """Maps each stored label to its index in `classes`; () if they are the same or do not match.

    Numbers are not names: class 3 of ten is not class 3 of a thousand.
    """
    place = {name: i for i, name in enumerate(classes)}
    known = place.keys() == set(stored) if numbers(stored) else place.keys() >= set(stored)
    if list(stored) == list(classes) or not known:
        return ()
    return tuple(place[name] for name in stored)


def numbers(classes: Sequence[str]) -> bool:
    """Whether the classes have only numbers as names."""
    return all(map(str.isdecimal, classes))


def _features(dataset: str, features: Any, image_key: str, label_key: str) -> tuple[str, str]:
    """The names of the features that contain the image and its label or labels."""
    kinds = (
        ("image", image_key, ("image",), _is_image),
        ("label", label_key, _LABEL_FEATURES, _is_label),
    )
    found = []
    for what, key, usual, may_be in kinds:
        if key and key not in features:
            raise errors.unknown(f"feature in config.input.{what}_key", key, features)
        name = key or next((name for name in usual if name in features), None)
        if name is None:
            like = sorted(n for n, feature in features.items() if may_be(feature))
            raise errors.BadInput(
                f"dataset {dataset!r} has the features {', '.join(sorted(features))}, and none is "
                f"named {' or '.join(usual)}: set config.input.{what}_key="
                f"{' or '.join(like) or 'NAME'}"
            )
        found.append(name)
    return tuple(found)


def _is_image(feature: Any) -> bool:
    return isinstance(feature, tfds.features.Image)


def _is_label(feature: Any) -> bool:
    stored = getattr(feature, "feature", feature)
    return isinstance(stored, tfds.features.ClassLabel) or tfds_vectors.size(feature) > 0


def _max_labels(dataset: str, builder: tfds.core.DatasetBuilder) -> int:
    most = (builder.info.metadata or {}).get("max_labels", _MAX_LABELS.get(builder.name))
    if not isinstance(most, int) or most < 1:
        found = "is not recorded" if most is None else f"is recorded as {most!r}"
        raise errors.BadInput(
            f"dataset {dataset!r}: its examples have several labels, and their maximum number "
            f'{found}: write {{"max_labels": NUMBER}} into {builder.data_path}/metadata.json'
        )
    return most
