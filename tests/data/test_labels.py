"""Several labels per image, from the stored records to the rows of a batch."""

import json
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds

from mixer import batch as batch_lib
from mixer import errors
from mixer.data import order as order_lib
from mixer.data import pipeline, sources, transforms

SIZE, BATCH = (8, 8), 24


def rows_of(source, max_labels, order=None, skip_bad=False):
    return pipeline.Rows(
        source=source,
        transform=transforms.parse("resize", SIZE),
        order=order,
        seed=0,
        batch_size=BATCH,
        rows=range(BATCH),
        padding=batch_lib.padding(SIZE, max_labels),
        skip_bad=skip_bad,
    )


def collect(rows, stop):
    return list(pipeline.batches(rows, start=0, stop=stop, threads=2, workers=0))


def test_batches_contain_the_labels_that_tfds_reads(data_dir):
    source = sources.open_source("jft", "full[:60]", data_dir)
    assert source.max_labels == 3 and len(source.classes) == 18_291
    made = collect(rows_of(source, 3), 3)
    spec = batch_lib.spec(BATCH, SIZE, 3)
    for batch in made:
        assert {k: (batch[k].shape, batch[k].dtype) for k in spec} == {
            k: (v.shape, v.dtype) for k, v in spec.items()
        }
    got = np.concatenate([batch["label"] for batch in made])
    builder = tfds.builder_from_directory(data_dir / "jft" / "1.0.0")
    known = [list(record["labels"]) for record in builder.as_data_source("full")]
    assert {len(several) for several in known} == {0, 1, 2, 3} and [7, 5, 7] in known
    for i, row in enumerate(got):
        given = known[i] if i < 60 else []
        assert list(row) == given + [-1] * (3 - len(given))


def test_the_order_changes_no_labels(data_dir):
    source = sources.open_source("jft", "full", data_dir)
    rows = rows_of(source, 3, order_lib.Full(len(source), 1))
    (batch,) = collect(rows, 1)
    for place, label in enumerate(batch["label"]):
        assert [i for i in label if i >= 0] == list(source[rows.order[place]]["label"])


class Made:
    """A user's own source; without `max_labels` it has one label per image."""

    name, split, classes = "made", "train", ("a", "b", "c")

    def __init__(self, label):
        self.label = label

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return {"image": np.zeros((8, 8, 3), np.uint8), "label": self.label}

    def where(self, index):
        return f"made, example {index}"


@pytest.mark.parametrize(
    "label, max_labels, message",
    [
        ([0, 1, 2], 2, "made, example 0: it has 3 labels: expected 2 at most"),
        ([0, 3], 2, "made, example 0: label 3: expected 0 to 2"),
        ([-1], 2, "label -1: expected 0 to 2"),
        ([0.5], 2, "expected a sequence of class numbers"),
        (1, 2, "expected a sequence of class numbers"),
        ([1], 0, "expected one class number"),
        (3, 0, "made, example 0: label 3: expected 0 to 2"),
        (-1, 0, "label -1: expected 0 to 2"),
    ],
)
def test_labels_that_do_not_fit_are_named(label, max_labels, message):
    for skip_bad in (False, True):  # a wrong label does not make the image unreadable
        with pytest.raises(pipeline.BadExample, match=message):
            rows_of(Made(label), max_labels, skip_bad=skip_bad)(0)


def test_a_source_without_the_attribute_has_one_label():
    assert sources.max_labels(Made(1)) == 0
    row = rows_of(Made(np.int64(1)), 0)(0)
    assert row["label"].shape == () and row["label"].dtype == np.int32 and row["label"] == 1


def test_a_row_is_the_labels_then_minus_one():
    padding = np.full(4, -1, np.int32)
    for given in ([], [2], (2, 2, 0), np.array([1, 0, 2, 1])):
        row = pipeline.label_row(given, padding, 3)
        assert row.dtype == np.int32 and row.tolist() == [*given, *[-1] * (4 - len(given))]
    assert (padding == -1).all()


def test_the_maximum_number_of_labels_must_be_recorded(data_dir, tmp_path):
    copy = tmp_path / "jft" / "1.0.0"
    shutil.copytree(data_dir / "jft" / "1.0.0", copy)
    for metadata, found in (
        ({"version": 1}, "is not recorded"),
        ({"max_labels": "3"}, "recorded as '3'"),
        ({"max_labels": 0}, "recorded as 0"),
    ):
        (copy / "metadata.json").write_text(json.dumps(metadata))
        with pytest.raises(errors.BadInput, match=found + ".*NUMBER.* into .*metadata.json"):
            sources.open_source("jft", "full", tmp_path)
    (copy / "metadata.json").unlink()
    with pytest.raises(errors.BadInput, match="is not recorded"):
        sources.open_source("jft", "full", tmp_path)


def test_a_prepared_dataset_is_recognised(data_dir, monkeypatch):
    assert sources.is_dataset("jft") and sources.is_dataset("jft:1.0.0")
    for name in ("jfk", "imagenet21", "..", ".", "*", "/", ""):
        assert not sources.is_dataset(name), name
    monkeypatch.setenv("TFDS_DATA_DIR", str(data_dir / "nowhere"))
    assert not sources.is_dataset("jft") and sources.is_dataset("imagenet2012")
