import io
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tfds_stand_ins as stand_ins

from mixer import errors
from mixer.data import sources
from mixer.data.sources.real import RealSource
from mixer.evaluation.multilabel import MultiLabel
from mixer.evaluation.registry import evaluate
from mixer.runs.reader import open_reader
from mixer.training import meshes

# LENGTHS[n] of the 50,000 published lists have n labels.
LENGTHS = (3163, 39_394, 5408, 1319, 411, 161, 88, 41, 13, 2)


class Images:
    """50,000 records as TFDS's data source returns them, in a different order."""

    def __init__(self, order):
        self.order = order

    def __len__(self):
        return len(self.order)

    def __getitem__(self, index):
        name = f"ILSVRC2012_val_{self.order[index] + 1:08d}.JPEG"
        return {"image": b"", "file_name": name.encode(), "label": 0}


class Validation:
    """Replaces the TfdsSource."""

    split, classes = "validation", tuple(map(str, range(1000)))

    def __init__(self, order):
        self.records = Images(order)

    def __len__(self):
        return len(self.records)


@pytest.fixture(scope="module")
def published():
    """Lists with the published counts, in random order: distinct classes, not sorted."""
    lengths = np.random.default_rng(0).permutation(np.repeat(np.arange(10), LENGTHS)).tolist()
    return [[(37 * i + 301 * k) % 1000 for k in range(n)] for i, n in enumerate(lengths)]


def test_the_published_counts(published):
    order = np.random.default_rng(1).permutation(50_000)
    source = RealSource("real", Validation(order), published)
    assert len(source) == 50_000 and source.max_labels == 9 and len(source.classes) == 1000
    labels = [source[i]["label"] for i in range(50_000)]
    assert all(label is published[place] for label, place in zip(labels, order, strict=True))
    assert sum(map(bool, labels)) == 46_837 and sum(map(len, labels)) == 57_553


def test_labels_are_joined_by_file_name(data_dir):
    own = sources.open_source("imagenet2012", "validation", data_dir)
    assert own.published
    real = sources.open_source("real", "validation", data_dir)
    assert real.published
    assert real.classes == own.classes and len(real) == 16
    for i in range(16):
        assert real[i]["image"] == own[i]["image"]
        number = own[i]["label"] // 15  # the stand-in's image of that number, from 0
        assert real[i]["label"] == [number * 15 + k for k in range(number % 5)]
        assert f"ILSVRC2012_val_{number + 1:08d}.JPEG" in real.where(i)


def test_tfds_own_dataset_gives_the_same_accuracy(data_dir, tmp_path):
    """`imagenet2012_real`, against the same images and their lists in a file."""
    lists = [[7], [], [3, 7], [5], [], [9, 8, 1], [7, 2, 4, 6], [0]] * 2
    file = tmp_path / "real.json"
    file.write_text(json.dumps(lists + [[1]] * (50_000 - 16)))
    joined = sources.open_source(f"real:{file}", "validation", data_dir)
    examples = [
        {
            "image": io.BytesIO(joined[i]["image"]),
            "original_label": 0,
            "real_label": joined[i]["label"],
            "file_name": joined.images.records[i]["file_name"].decode(),
        }
        for i in range(16)
    ]
    stand_ins.write(tmp_path, "imagenet2012_real", {"validation": examples})
    own = sources.open_source("imagenet2012_real", "validation", tmp_path)
    assert own.classes == joined.classes and sources.max_labels(own) == 9
    assert "ILSVRC2012_val_0000" in own.where(3)
    for i in range(16):
        assert own[i]["image"] == joined[i]["image"]
        assert list(own[i]["label"]) == joined[i]["label"]

    def logits(params, images):  # class 7 for all images
        return jax.nn.one_hot(jnp.full(len(images), 7), 1000)

    evaluator = MultiLabel(logits, 1000)
    for source in (own, joined):
        reader = open_reader(
            source,
            "resize",
            (8, 8),
            batch_size=8,
            seed=0,
            order=None,
            mesh=meshes.make_mesh(),
            threads=1,
            workers=0,
        )
        with reader.batches() as batches:
            measured = evaluate(evaluator, jax.jit(evaluator.update), {}, batches)
        # 4 of the 16 images have no label and are not counted.
        assert measured["top1"] == pytest.approx(6 / 12)


def test_other_images_are_refused(data_dir):
    with pytest.raises(errors.BadInput, match="no labels for file 'n014.*: use split validation"):
        sources.open_source("real", "train", data_dir)


def test_a_missing_file_is_reported_as_missing(data_dir, tmp_path):
    with pytest.raises(errors.Missing, match="nowhere.json cannot be read.*there once: https"):
        sources.open_source(f"real:{tmp_path}/nowhere.json", "validation", data_dir)


def test_the_file_may_be_in_a_store(data_dir, noise_dir, server):
    with pytest.raises(errors.Missing, match="gs://bucket/data/real.json cannot be read"):
        sources.open_source("real:gs://bucket/data/real.json", "validation", data_dir)
    shutil.copy(data_dir / "real.json", noise_dir / "real.json")
    remote = sources.open_source("real:gs://bucket/data/real.json", "validation", data_dir)
    assert remote.labels == sources.open_source("real", "validation", data_dir).labels


@pytest.mark.parametrize(
    "content, message",
    [
        ("{", "is not JSON"),
        ("[[1], [2]]", "expected 50,000 lists"),
        (json.dumps([[]] * 50_000), "expected 50,000 lists"),
        (json.dumps([[1]] * 49_999 + [[1000]]), "from 0 to 999"),
        (json.dumps([[1]] * 49_999 + [[True]]), "from 0 to 999"),
        (json.dumps([[1]] * 49_999 + [3]), "from 0 to 999"),
    ],
)
def test_a_file_that_is_something_else_is_refused(data_dir, tmp_path, content, message):
    file = tmp_path / "real.json"
    file.write_text(content)
    with pytest.raises(errors.BadInput, match=message):
        sources.open_source(f"real:{file}", "validation", data_dir)
