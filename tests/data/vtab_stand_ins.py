"""Small datasets with the very features that TFDS gives to those of VTAB-1k."""

import dataclasses
import io

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from mixer.data import records, vtab

COUNT = 40
SPLITS = {
    "train800": "train[:24]",
    "val200": "train[24:32]",
    "train1000": "train[:24]+train[24:32]",
    "test": "train[32:]",
}


def png(pixels):
    """An image file, as TFDS takes it."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    file.seek(0)
    return file


def features_of(task):
    """As the installed TFDS declares them."""
    return tfds.builder(task.builder, data_dir="nowhere", try_gcs=False).info.features


def example(features, rng):
    """A random example; all objects of an image are vehicles 9 units away."""
    made = {}
    for name, feature in features.items():
        if isinstance(feature, tfds.features.Image):
            height, width, channels = (side or 24 for side in feature.shape)
            top = 2 if channels == 1 else 256
            pixels = rng.integers(0, top, (height, width, channels)).astype(np.uint8)
            made[name] = png(pixels.squeeze())
        elif isinstance(feature, tfds.features.ClassLabel):
            made[name] = int(rng.integers(feature.num_classes))
        elif isinstance(feature, tfds.features.BBoxFeature):
            made[name] = tfds.features.BBox(0.0, 0.0, 1.0, 1.0)
        elif isinstance(feature, tfds.features.Text):
            made[name] = "name"
        elif isinstance(feature, tfds.features.Sequence):
            count = int(rng.integers(3, 11))
            made[name] = [example(feature.feature, rng) | _near(feature) for _ in range(count)]
        else:
            made[name] = np.zeros(feature.shape, feature.np_dtype)
    return made


def _near(feature):
    place = {"pixel_coords": [1.0, 2.0, 9.0], "location": [1.0, 2.0, 9.0], "type": 1}
    return {name: value for name, value in place.items() if name in feature.feature}


def small(monkeypatch, name, data_dir, examples=None):
    """Makes a task one of few examples, and prepares these unless they are; returns the task."""
    task = vtab.TASKS[name]
    if examples is None:
        rng, features = np.random.default_rng(0), features_of(task)
        examples = [example(features, rng) for _ in range(COUNT)]
    replaced = dataclasses.replace(task, sizes={"train": len(examples)})
    monkeypatch.setitem(vtab.TASKS, name, replaced)
    monkeypatch.setattr(vtab.Task, "splits", property(lambda self: SPLITS))
    directory = data_dir.joinpath(*task.builder.split(":"))
    if not directory.exists():
        records.write_dataset(directory, features_of(task), {"train": examples}, "A stand-in.")
    return replaced
