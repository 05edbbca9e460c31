"""Small datasets of random examples with the names and features of TFDS's datasets."""

import dataclasses
import io

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from mixer.data.sources import records, vtab_tasks

# For a VTAB-1k task with 40 examples.
SPLITS = {
    "train800": "train[:24]",
    "val200": "train[24:32]",
    "train1000": "train[:24]+train[24:32]",
    "test": "train[32:]",
}


def png(pixels):
    """An image file, in the form that TFDS accepts."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    file.seek(0)
    return file


def builder_of(dataset):
    """The builder in the installed TFDS."""
    return tfds.builder(dataset, data_dir="nowhere", try_gcs=False)


def examples_of(dataset, count):
    """Random examples."""
    rng, features = np.random.default_rng(0), builder_of(dataset).info.features
    return [example(features, rng) for _ in range(count)]


def write(data_dir, dataset, splits):
    """Prepares a dataset from the examples of its splits."""
    builder = builder_of(dataset)
    name, version = dataset.partition(":")[0], str(builder.version)
    # A config adds a folder between this one and the dataset's, which gives the files their name.
    written = data_dir / "written" / builder.name / version
    records.write_dataset(written, builder.info.features, splits, "A stand-in.")
    (data_dir / name).mkdir(parents=True)
    written.rename(data_dir / name / version)


def example(features, rng):
    """A random example; all objects of an image are vehicles 9 units away."""
    made = {}
    for name, feature in features.items():
        if isinstance(feature, tfds.features.Image):
            height, width, channels = (side or 24 for side in feature.shape)
            top = 2 if channels == 1 else 256
            row = rng.integers(0, top, (1, width, channels)).astype(np.uint8)
            made[name] = png(np.repeat(row, height, axis=0).squeeze())
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


def small_task(monkeypatch, name, data_dir, examples=None):
    """Shrinks a VTAB-1k task to a few examples and prepares them; returns the task."""
    task = vtab_tasks.TASKS[name]
    examples = examples or examples_of(task.builder, 40)
    replaced = dataclasses.replace(task, sizes={"train": len(examples)})
    monkeypatch.setitem(vtab_tasks.TASKS, name, replaced)
    monkeypatch.setattr(vtab_tasks.Task, "splits", property(lambda self: SPLITS))
    write(data_dir, task.builder, {"train": examples})
    return replaced
