"""The labels of a whole split, without decoding its images."""

import numpy as np
import pytest
import sharded

from mixer import errors
from mixer.data import sources
from mixer.data.sources import staging, subset
from mixer.data.sources.labels import labels_of


def read(source):
    return [source[i]["label"] for i in range(len(source))]


def test_the_labels_of_folders_and_parts_are_those_of_the_examples(image_folder):
    whole = sources.open_source(f"folder:{image_folder}", "train+test")
    for source in (whole, subset.Subset(whole, 40, 12)):
        assert labels_of(source, "x").tolist() == read(source)


def test_a_prepared_dataset_is_read_once_until_it_changes(tmp_path, cache, capsys):
    def write(path, sizes):
        sharded.write(path / "noise" / "1.0.0", {"train": sizes})

    write(tmp_path, [30, 20])
    for split, said in (("train[20%:]", 1), ("train[20%:]", 0), ("train", 1)):
        source = sources.open_source("noise", split, tmp_path)
        assert labels_of(source, "x").tolist() == read(source)
        assert capsys.readouterr().out.count("reading the labels of noise") == said
    copied = staging.open_staged("noise", "train", tmp_path, tmp_path / "stage")
    assert labels_of(copied, "x").tolist() == read(source)  # before anything is copied
    assert not list((tmp_path / "stage").rglob("*record*"))


def test_labels_in_a_bucket_are_refused(server, cache):
    source = sources.open_source("noise", "train", "gs://bucket/data")
    with pytest.raises(errors.BadInput, match="use a copy on a disk"):
        labels_of(source, "config.class_weights")


def test_an_example_without_a_label_is_named(image_folder):
    class Unlabelled:
        name, split, classes, __len__ = "mine", "train", ("a", "b"), lambda self: 3
        where = staticmethod("example {} of mine".format)

        def __getitem__(self, index):
            return {"image": b"", "label": np.int64(1 - index)}

    with pytest.raises(errors.BadInput, match="example 2 of mine: label -1: x expects 0 to 1"):
        labels_of(Unlabelled(), "x")
