"""Writes ArrayRecord datasets in TFDS layout, without TensorFlow."""

import contextlib
import fcntl
import hashlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter


def hash_key(key: str) -> bytes:
    """The fixed hash by whose order examples are stored and listed.

    In this order every range of a split is a random sample.
    """
    return hashlib.blake2b(key.encode(), digest_size=16).digest()


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """Holds an exclusive lock on the file `path`; the system frees it if the process dies."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_dataset(
    directory: Path,
    features: tfds.features.FeaturesDict,
    splits: Mapping[str, Iterable[dict]],
    description: str,
) -> None:
    """Writes `<data_dir>/<name>/<version>`, readable by `tfds.builder(name)`.

    Args:
      directory: that path; it appears complete (written beside and renamed) or not at all.
      features: of the examples. An image given as a binary file object is stored byte for byte.
      splits: the examples of each split in the order to store them, one shard a split.
      description: one sentence for the metadata.
    """
    name, version = directory.parent.name, directory.name
    directory.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f"incomplete.{version}.", dir=directory.parent))
    try:
        infos = []
        for split, examples in splits.items():
            path = work / f"{name}-{split}.array_record-00000-of-00001"
            # One record a group: what random access reads fastest.
            writer = ArrayRecordWriter(str(path), "group_size:1")
            count = size = 0
            for example in examples:
                record = features.serialize_example(features.encode_example(example))
                writer.write(record)
                count, size = count + 1, size + len(record)
            writer.close()
            info = tfds.core.SplitInfo(name=split, shard_lengths=[count], num_bytes=size)
            infos.append(info)
        tfds.folder_dataset.write_metadata(
            data_dir=work,
            features=features,
            split_infos=infos,
            version=version,
            filename_template=tfds.core.ShardedFileTemplate(
                data_dir=work, dataset_name=name, filetype_suffix="array_record"
            ),
            description=description,
            check_data=False,
        )
        work.chmod(0o755)
        work.rename(directory)
    finally:
        shutil.rmtree(work, ignore_errors=True)
