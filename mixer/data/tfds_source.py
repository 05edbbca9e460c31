"""Prepared TFDS datasets as a source."""

import contextlib
import dataclasses
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from mixer import errors
from mixer.data import object_store, remote_dataset, splits

_LABEL_FEATURES = ("label", "labels", "real_label")
# Of TFDS's own datasets, which do not record it.
_MAX_LABELS = {"imagenet2012_real": 9}


def open_builder(
    dataset: str, data_dir: Path | str, local: Path, also_known: Sequence[str] = ()
) -> tfds.core.DatasetBuilder:
    """A prepared dataset's builder.

    Args:
      local: `data_dir`, or a folder with the metadata of a remote one.
      also_known: other datasets that there are, to guess a name from.

    Raises:
      Missing: it is not prepared, or nobody knows it.
      BadInput: its name or its files cannot be read, or its version is unknown.
    """
    if dataset.startswith("huggingface:"):
        raise errors.BadInput(
            f"dataset {dataset!r}: datasets of the Hugging Face Hub are not read from there. Save "
            f"the images as PATH/<split>/<class>/*.jpg and take folder:PATH"
        )
    try:
        builder = tfds.builder(dataset, data_dir=local, try_gcs=False)
    except tfds.core.registered.DatasetNotFoundError:
        if wrong := _damage(dataset, data_dir, local):
            raise errors.BadInput(wrong) from None
        known = [*also_known, *tfds.list_builders(with_community_datasets=False)]
        found = errors.unknown("dataset", dataset, known)
        line = str(found).split(" Known:")[0]
        raise errors.Missing(
            f"{line} It is none of TFDS's, and not prepared in {data_dir}. Your own images: "
            f"folder:PATH, with PATH/train/<class>/*.jpg; millions of them: config.run=prepare"
        ) from None
    except Exception as error:  # of many kinds, where the dataset's files are damaged
        first = (str(error).strip() or repr(error)).splitlines()[0]
        wrong = _damage(dataset, data_dir, local) or f"dataset {dataset!r}: {first}"
        raise errors.BadInput(wrong) from None
    if not builder.info.splits:
        raise errors.Missing(_how_to_prepare(dataset, data_dir))
    return builder


def open_records(
    builder: tfds.core.DatasetBuilder, dataset: str, split: str, data_dir: Path | str, local: Path
) -> Any:
    """A split with random access to its records, their images as the files that were stored.

    `data_dir` and `local` are those of `open_builder`.

    Raises:
      BadInput: it is stored as TFRecord.
    """
    images = (n for n, f in builder.info.features.items() if isinstance(f, tfds.features.Image))
    skip = {name: tfds.decode.SkipDecoding() for name in images}
    try:
        records = builder.as_data_source(split, decoders=skip)
    except NotImplementedError:
        raise errors.BadInput(_how_to_convert(dataset, builder.data_path)) from None
    if object_store.is_remote(data_dir):
        return remote_dataset.Records.open(builder, split, skip, local, data_dir)
    return records


def _damage(dataset: str, data_dir: Path | str, local: Path) -> str | None:
    """What is wrong with the files that describe a prepared dataset; None if nothing is found."""
    name, _, version = dataset.partition(":")
    files = [*(local / name).glob("**/*.json"), *(local / name).glob("**/*record*")]
    folders = {file.parent for file in files if re.fullmatch(r"[\d.]+", file.parent.name)}
    found = {folder.name for folder in folders}
    if version and found and version not in found:
        return f"dataset {name!r} is prepared in version {', '.join(sorted(found))}, not {version}"
    for folder in sorted(folders):
        for file, key in (("dataset_info.json", "splits"), ("features.json", "pythonClassName")):
            trouble = "does not describe a dataset"
            with contextlib.suppress(TypeError):
                try:
                    if key in json.loads((folder / file).read_text()):
                        continue
                except FileNotFoundError:
                    trouble = "is missing"
                except (OSError, ValueError) as error:
                    trouble = f"is damaged: {str(error).splitlines()[0]}"
            place = f"{str(data_dir).rstrip('/')}/{folder.relative_to(local).as_posix()}"
            return (
                f"dataset {dataset!r}: {place}/{file} {trouble}. Copy it anew from where the "
                f"dataset is from, or delete {place} and prepare the dataset again"
            )
    return None


@dataclasses.dataclass(frozen=True)
class TfdsSource:
    """A prepared TFDS dataset of images with labels, stored as ArrayRecord.

    Where examples have several labels, the feature of these is a sequence of class labels, and the
    dataset's metadata record `max_labels`; or it is TFDS's `imagenet2012_real`.
    """

    name: str
    split: str
    classes: Sequence[str]
    records: Any
    image_feature: str = "image"
    label_feature: str = "label"
    max_labels: int = 0
    remote: bool = False
    published: bool = False

    @classmethod
    def open(
        cls,
        dataset: str,
        split: str,
        data_dir: Path | str,
        local: Path,
        also_known: Sequence[str] = (),
        *,
        classes: Sequence[str] = (),
        num_classes: int | None = None,
        image_key: str = "",
        label_key: str = "",
    ) -> "TfdsSource":
        """See `sources.open_source` and `open_builder`.

        Args:
          classes, num_classes: the names of labels that are mere numbers, or how many there are.
          image_key, label_key: the features; by default image, and label, labels or real_label.
        """
        builder = open_builder(dataset, data_dir, local, also_known)
        sizes = {name: info.num_examples for name, info in builder.info.splits.items()}
        features = builder.info.features
        image, label = _features(dataset, features, image_key, label_key)
        several = isinstance(features[label], tfds.features.Sequence)
        split = splits.as_spelled(split, sizes)
        ranges = splits.absolute_ranges(dataset, split, sizes)
        if not any(len(range(sizes[part])[chosen]) for part, chosen in ranges):
            raise errors.BadInput(
                f"dataset {dataset!r}: split {split!r} holds no examples; it has "
                f"{splits.listed(sizes)}"
            )
        of_label = features[label].feature if several else features[label]
        if hasattr(of_label, "names"):
            classes = of_label.names
        elif np.issubdtype(of_label.np_dtype, np.integer) and not of_label.shape:
            classes = classes or tuple(map(str, range(num_classes or 0)))
        else:
            raise errors.BadInput(
                f"dataset {dataset!r}: its feature {label} is {of_label!r}, no label: set "
                f"config.input.label_key to another of {', '.join(sorted(features))}"
            )
        if not classes:
            raise errors.BadInput(
                f"dataset {dataset!r}: its feature {label} is a number, and how many classes there "
                f"are is not recorded: set config.model.num_classes, or config.input.class_names "
                f"to a file with their names"
            )
        max_labels = _max_labels(dataset, builder) if several else 0
        opened = open_records(builder, dataset, split, data_dir, local)
        remote = object_store.is_remote(data_dir)
        published = builder.name in tfds.list_builders(with_community_datasets=False)
        return cls(
            dataset,
            split,
            tuple(classes),
            opened,
            image,
            label,
            max_labels,
            remote,
            published,
        )

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._example(self.records[index])

    def read(self, start: int, stop: int) -> list[dict[str, Any]]:
        """Examples start ... stop-1, read together."""
        return [self._example(r) for r in self.records.__getitems__(range(start, stop))]

    def _example(self, record: dict[str, Any]) -> dict[str, Any]:
        image = record[self.image_feature]
        if image is None:  # ArrayRecord gives such for what lies beyond a file's end
            raise ValueError("the record is empty: its file was cut short")
        label = record[self.label_feature]
        return {"image": image, "label": label if self.max_labels else int(label)}

    def where(self, index: int) -> str:
        record = self.records[index]
        file = record.get("file_name")
        named = f", file {os.fsdecode(file)}" if file else ""
        return f"dataset {self.name}, split {self.split}, example {index}{named}"


def _features(dataset: str, features: Any, image_key: str, label_key: str) -> tuple[str, str]:
    """The names of the features that hold the image and its label or labels."""
    kinds = (
        ("image", image_key, ("image",), tfds.features.Image),
        ("label", label_key, _LABEL_FEATURES, tfds.features.ClassLabel),
    )
    found = []
    for what, key, usual, kind in kinds:
        if key and key not in features:
            raise errors.unknown(f"feature in config.input.{what}_key", key, features)
        name = key or next((name for name in usual if name in features), None)
        if name is None:
            ours = {n: getattr(feature, "feature", feature) for n, feature in features.items()}
            like = sorted(n for n, feature in ours.items() if isinstance(feature, kind))
            raise errors.BadInput(
                f"dataset {dataset!r} has the features {', '.join(sorted(features))}, and none is "
                f"called {' or '.join(usual)}: set config.input.{what}_key="
                f"{' or '.join(like) or 'NAME'}"
            )
        found.append(name)
    return tuple(found)


def _max_labels(dataset: str, builder: tfds.core.DatasetBuilder) -> int:
    most = (builder.info.metadata or {}).get("max_labels", _MAX_LABELS.get(builder.name))
    if not isinstance(most, int) or most < 1:
        found = "is not recorded" if most is None else f"is recorded as {most!r}"
        raise errors.BadInput(
            f"dataset {dataset!r}: its examples have several labels, and how many at most {found}: "
            f'write {{"max_labels": NUMBER}} into {builder.data_path}/metadata.json'
        )
    return most


def _how_to_prepare(dataset: str, data_dir: Path | str) -> str:
    missing = f"dataset {dataset!r} is not prepared in {data_dir}. Once: "
    if dataset.split(":")[0] == "imagenet2012":
        return missing + (
            f"python main.py --config=configs/imagenet.py --config.run=prepare "
            f"--config.prepare.source=imagenet:PATH --config.runtime.data_dir={data_dir} "
            f"--workdir=runs/prepare, with PATH the folder of ILSVRC2012_img_train.tar and "
            f"ILSVRC2012_img_val.tar"
        )
    return missing + (
        f"pip install -r requirements-prepare.txt && "
        f'python -c "import tensorflow_datasets as tfds; '
        f"tfds.builder({dataset!r}, data_dir={str(data_dir)!r}, file_format='array_record')"
        f'.download_and_prepare()"'
    )


def _how_to_convert(dataset: str, path: str) -> str:
    return (
        f"dataset {dataset!r} at {path} is stored as TFRecord, which has no random access. Once: "
        f"pip install -r requirements-prepare.txt && tfds convert_format "
        f"--dataset_version_dir={path} --out_file_format=array_record"
    )
