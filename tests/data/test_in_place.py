"""Data read where they lie: every form of a data set gives the same examples in the same order."""

import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from forms import (
    CLASSES,
    FORMS,
    as_folder,
    as_npz,
    as_parquet,
    first_batch,
    open_,
    prepared,
    table_of,
)

from configs import arguments
from mixer import errors
from mixer.data import sources
from mixer.data.decode import decode
from mixer.prepare import readers

pytestmark = pytest.mark.usefixtures("cache")


def pixels_of(example):
    image = example["image"]
    return decode(image) if isinstance(image, bytes) else image


@pytest.mark.parametrize("form", FORMS)
def test_the_same_examples_order_and_first_batch_in_every_form(form, made, tmp_path):
    reference = as_folder(made, tmp_path / "reference")
    place = form(made, tmp_path / "a form,with commas, and spaces")
    ready = prepared(place, tmp_path / "tfds")
    for split in ("train", "test", "train[25%:75%]+test"):
        known = sources.open_source(reference, split)
        for source in (sources.open_source(place, split), ready(split)):
            assert source.classes == known.classes == CLASSES and len(source) == len(known)
            for i in range(len(known)):
                assert source[i]["label"] == known[i]["label"]
                np.testing.assert_array_equal(pixels_of(source[i]), pixels_of(known[i]))
    batch = first_batch(sources.open_source(reference, "train"))
    for source in (sources.open_source(place, "train"), ready("train")):
        same = first_batch(pickle.loads(pickle.dumps(source)))  # as in a worker process
        assert all(np.array_equal(same[key], batch[key]) for key in batch)
    assert arguments.parse(f"{place},32", model="", dataset="", resolution=0).dataset == place
    assert sources.is_dataset(place) and not sources.is_tfds(place)
    assert sources.split_to_measure(place) == "test"
    assert sources.split_to_train_on(place) == "train"


def test_a_misspelt_kind_is_recognised():
    with pytest.raises(errors.BadInput, match="Did you mean 'parquet:PATH'"):
        arguments.parse("parqet:/a/b", model="", dataset="", resolution=0)


def test_a_moved_set_has_the_same_fingerprint_and_other_labels_another(made, tmp_path):
    pixels, labels = made["train"]
    others = made | {"train": (pixels, 2 - labels)}
    places = [as_parquet(m, tmp_path / n) for n, m in (("a", made), ("b", made), ("c", others))]
    marks = [sources.fingerprint(sources.open_source(place, "train")) for place in places]
    assert marks[0] == marks[1] != marks[2]


def test_every_range_of_sorted_rows_has_every_class(tmp_path):
    labels = np.repeat(np.arange(3), 30)
    pixels = np.zeros((90, 4, 4, 3), np.uint8)
    pq.write_table(table_of(pixels, labels), tmp_path / "a.parquet")
    place = f"parquet:{tmp_path}"
    for part in ("train[:40%]", "train[40%:80%]"):
        source = sources.open_source(place, part)
        assert {source[i]["label"] for i in range(len(source))} == {0, 1, 2}
    assert sources.split_to_measure(place, place) == "train[90%:]"
    assert sources.split_to_measure(place) == "train"
    assert sources.split_to_train_on(place) == "train[:90%]"


def test_a_split_without_labels_is_refused_and_not_prepared(made, tmp_path, capsys):
    place = as_parquet(made, tmp_path / "set")
    for file in (tmp_path / "set/data").glob("test-*"):
        table = pq.read_table(file)
        none = pa.array([-1] * len(table), table.schema.field("label").type)
        pq.write_table(table.set_column(1, "label", none), file)
    assert len(open_(place)) == 40
    with pytest.raises(errors.BadInput, match="has no label: use another split than test"):
        open_(place, "test")
    ready = prepared(place, tmp_path / "tfds")
    assert "not read: split test, which has no labels" in capsys.readouterr().out
    assert len(ready("train")) == 40


def test_naming_the_column_that_is_chosen_anyway_makes_no_other_source(made, tmp_path):
    assert readers.needed_keys(as_parquet(made, tmp_path / "a"), "image", "label") == {}
    assert readers.needed_keys(as_npz(made, tmp_path / "b"), "x", "y") == {}
    file = tmp_path / "c.parquet"
    table = table_of(*made["train"], hub=False, coarse=pa.array([0, 1] * 20))
    pq.write_table(table, file)
    needed = {"label_key": "coarse"}
    assert readers.needed_keys(f"parquet:{file}", "image", "coarse") == needed
    pq.write_table(table.drop_columns("label"), file)  # no column is chosen by itself
    assert readers.needed_keys(f"parquet:{file}", "", "coarse") == needed


@pytest.mark.parametrize(
    "name, kind",
    [("a.csv", "manifest"), ("a.NPZ", "arrays"), ("a.parquet", "parquet"), ("a.tar", "webdataset")],
)
def test_a_path_without_its_kind_is_told_the_kind(name, kind, tmp_path):
    (tmp_path / name).touch()
    for given in (f"{tmp_path}/{name}", f"table:{tmp_path}/{name}"):
        with pytest.raises(errors.BadInput, match=f"did you mean '{kind}:{tmp_path}/{name}'"):
            sources.open_source(given, "train", tmp_path)


def test_a_prepared_dataset_is_found_beside_a_folder_of_its_name(data_dir, tmp_path, monkeypatch):
    (tmp_path / "digits").mkdir()
    monkeypatch.chdir(tmp_path)
    assert sources.open_source("digits", "train", data_dir)
