"""Writes a TFDS dataset of noise images in several shards."""

import io
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image


def write(directory: Path, splits: dict[str, list[int]], options: str = "group_size:1") -> None:
    """Writes <data_dir>/<name>/<version>; `splits` gives the lengths of each split's shards."""
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(encoding_format="png"),
            "label": tfds.features.ClassLabel(num_classes=3),
        }
    )
    directory.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split, lengths in splits.items():
        for shard, length in enumerate(lengths):
            name = f"{directory.parent.name}-{split}.array_record"
            path = directory / f"{name}-{shard:05}-of-{len(lengths):05}"
            writer = ArrayRecordWriter(str(path), options)
            for i in range(length):
                png = io.BytesIO()
                Image.fromarray(rng.integers(0, 256, (9, 8, 3)).astype(np.uint8)).save(png, "PNG")
                png.seek(0)
                example = features.encode_example({"image": png, "label": i % 3})
                writer.write(features.serialize_example(example))
            writer.close()
    tfds.folder_dataset.write_metadata(
        data_dir=directory,
        features=features,
        split_infos=[
            tfds.core.SplitInfo(name=name, shard_lengths=lengths, num_bytes=0)
            for name, lengths in splits.items()
        ],
        version=directory.name,
        filename_template=tfds.core.ShardedFileTemplate(
            data_dir=directory, dataset_name=directory.parent.name, filetype_suffix="array_record"
        ),
        description="Noise.",
        check_data=False,
    )
