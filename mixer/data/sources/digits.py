"""The built-in dataset `digits`: scikit-learn's 1,797 handwritten digits, 8 x 8 pixels, 17 greys.

It is written once as an ArrayRecord dataset and then read by the same code as ImageNet, so that a
newcomer's first command needs no network and exercises the whole input pipeline.
"""

import io
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from mixer import storage
from mixer.data.sources import records
from mixer.data.sources.hash_order import hash_key

VERSION = "1.0.0"


def prepare(data_dir: Path) -> None:
    """Writes `<data_dir>/digits/1.0.0` unless it exists.

    Every fifth digit in hash order is `test` (360), the others are `train` (1,437).
    """
    directory = data_dir / "digits" / VERSION
    if not directory.exists():
        with storage.naming(data_dir):
            data_dir.mkdir(parents=True, exist_ok=True)
    storage.make_once(directory, lambda: _write(directory), data_dir / "digits.lock")


def _write(directory: Path) -> None:
    from sklearn import datasets  # takes a second to import; needed once

    digits = datasets.load_digits()
    order = sorted(range(len(digits.target)), key=lambda i: hash_key(f"digits/{i}"))

    def examples(indices):
        for i in indices:
            grey = (digits.images[i] * (255 / 16)).round().astype(np.uint8)
            png = io.BytesIO()
            Image.fromarray(grey).save(png, "PNG")
            png.seek(0)
            yield {"image": png, "label": int(digits.target[i]), "id": i}

    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(8, 8, 1), encoding_format="png"),
            "label": tfds.features.ClassLabel(num_classes=10),
            "id": tfds.features.Scalar(np.int64),
        }
    )
    train = [i for place, i in enumerate(order) if place % 5]
    records.write_dataset(
        directory,
        features,
        {"train": examples(train), "test": examples(order[::5])},
        "The test set of UCI's Optical Recognition of Handwritten Digits, from scikit-learn.",
    )
