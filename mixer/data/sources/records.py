"""Writes ArrayRecord datasets in TFDS layout, without TensorFlow."""

import contextlib
import errno
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter
from tensorflow_datasets.core import example_serializer

from mixer import storage


def write_shard(
    path: Path, features: tfds.features.FeaturesDict, examples: Iterable[dict]
) -> dict[str, int]:
    """Writes a shard file, deterministically, and reads it back to verify it.

    Args:
      features: of the examples. An image given as a binary file object is stored byte for byte.

    Returns:
      The number of `records`, the `bytes` in them, and the `size` of the file.

    Raises:
      OSError: writing failed, or what is read back differs from what was written.
    """
    serializer = example_serializer.ExampleSerializer(features.get_serialized_info())
    with _disk_errors():
        # One record per group is fastest for random access.
        writer = ArrayRecordWriter(str(path), "group_size:1")
    count = size = 0
    written, found = hashlib.blake2b(), hashlib.blake2b()
    for example in examples:
        message = serializer.get_tf_example(features.encode_example(example))
        record = message.SerializeToString(deterministic=True)
        with _disk_errors():
            writer.write(record)
        written.update(record)
        count, size = count + 1, size + len(record)
    with _disk_errors():
        writer.close()
        reader = ArrayRecordReader(str(path))
        for i in range(reader.num_records()):
            found.update(reader.read([i])[0])
        reader.close()
    if written.digest() != found.digest():
        raise OSError(f"{path} reads back differently from what was written")
    return {"records": count, "bytes": size, "size": path.stat().st_size}


@contextlib.contextmanager
def _disk_errors() -> Iterator[None]:
    """Turns ArrayRecord's RuntimeError, which it raises whatever is wrong, into an OSError."""
    try:
        yield
    except RuntimeError as error:
        number, reason = storage.trouble(error)
        raise OSError(number or errno.EIO, reason) from None


def write_info(
    folder: Path,
    directory: Path,
    features: tfds.features.FeaturesDict,
    shards: Mapping[str, list[dict[str, int]]],
    description: str,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Writes TFDS's JSON files next to finished shards.

    Args:
      folder: where the shards are now.
      directory: `<data_dir>/<name>/<version>`, where they will be moved.
      shards: what `write_shard` returned, for each split, in order.
      metadata: for `builder.info.metadata`; JSON.
    """
    infos = [
        tfds.core.SplitInfo(
            name=split,
            shard_lengths=[shard["records"] for shard in written],
            num_bytes=sum(shard["bytes"] for shard in written),
        )
        for split, written in shards.items()
    ]
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=features,
        split_infos=infos,
        version=directory.name,
        filename_template=tfds.core.ShardedFileTemplate(
            data_dir=folder, dataset_name=directory.parent.name, filetype_suffix="array_record"
        ),
        description=description,
        metadata=tfds.core.MetadataDict(metadata) if metadata else None,
        supervised_keys=("image", "label") if "label" in features else None,
        check_data=False,
    )


def write_dataset(
    directory: Path,
    features: tfds.features.FeaturesDict,
    splits: Mapping[str, Iterable[dict]],
    description: str,
) -> None:
    """Writes `<data_dir>/<name>/<version>`, readable by `tfds.builder(name)`, one shard per split.

    Args:
      directory: that path; written to a temporary folder and renamed, so never incomplete.
      features: see `write_shard`.
      splits: the examples of each split, in storage order.
      description: one sentence for the metadata.

    Raises:
      Unwritable: writing failed.
    """
    name = directory.parent.name
    with storage.naming(directory):
        directory.parent.mkdir(parents=True, exist_ok=True)
        with storage.write_whole_folder(directory) as work:
            shards = {}
            for split, examples in splits.items():
                path = work / f"{name}-{split}.array_record-00000-of-00001"
                shards[split] = [write_shard(path, features, examples)]
            write_info(work, directory, features, shards, description)
