"""Labels that are vectors of numbers, from the files to the rows of a batch."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from forms import first_batch, prepared
from PIL import Image

from mixer import batch as batch_lib
from mixer import errors
from mixer.data import pipeline, sources, transforms
from mixer.data.sources import Reading, label_kinds
from mixer.data.sources.subset import fraction_of

COUNT = 12
NAMES = ("height", "age")


@pytest.fixture(scope="module")
def made():
    """Pixels uint8 [N, 4, 4, 3], the numbers [N, 2] and the split of each row."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (COUNT, 4, 4, 3), np.uint8)
    return pixels, rng.normal(40, 9, (COUNT, 2)).round(3), ["train"] * 8 + ["test"] * 4


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def arrays(made, place):
    pixels, numbers, splits = made
    test = np.array(splits) == "test"
    of_split = {"train": ~test, "test": test}
    several = {f"{split}_images": pixels[rows] for split, rows in of_split.items()}
    several |= {f"{split}_labels": numbers[rows] for split, rows in of_split.items()}
    np.savez(place / "data.npz", **several, classes=np.array(NAMES))
    return f"arrays:{place}/data.npz", ""


def tables(make):
    def write(made, place):
        pixels, numbers, splits = made
        for split in ("train", "test"):
            rows = [i for i in range(COUNT) if splits[i] == split]
            columns, key = make(numbers[rows])
            table = pa.table({"image": [png(pixels[i]) for i in rows]} | columns)
            pq.write_table(table, place / f"{split}.parquet")
        return f"parquet:{place}", key

    return write


def manifest(line):
    def write(made, place):
        pixels, numbers, splits = made
        for i in range(COUNT):
            (place / f"{i}.png").write_bytes(png(pixels[i]))
        head, rows, key, ending = line(numbers, splits)
        (place / f"data{ending}").write_text("\n".join([*head, *rows]) + "\n")
        return f"manifest:{place}/data{ending}", key

    return write


def csv_rows(numbers, splits):
    rows = [f"{i}.png,{splits[i]},{age},{height}" for i, (height, age) in enumerate(numbers)]
    return ["path,split,age,height"], rows, "height, age", ".csv"


def json_rows(numbers, splits):
    lines = [
        json.dumps({"path": f"{i}.png", "split": splits[i], "soft": row})
        for i, row in enumerate(numbers.tolist())
    ]
    return [], lines, "soft", ".jsonl"


FORMS = {
    "arrays": arrays,
    "lists": tables(lambda numbers: ({"label": pa.array(numbers.tolist())}, "")),
    "columns": tables(
        lambda numbers: ({n: numbers[:, k] for k, n in enumerate(NAMES)}, ",".join(NAMES))
    ),
    "csv": manifest(csv_rows),
    "jsonl": manifest(json_rows),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_numbers_of_each_image(form, made, tmp_path):
    dataset, key = FORMS[form](made, tmp_path)
    pixels, numbers, splits = made
    assert sources.split_to_measure(dataset) == "test"
    for split in ("train", "test"):
        source = sources.open_source(dataset, split, reading=Reading(NAMES, label_key=key))
        assert source.classes == NAMES and source.label_kind == "values" and not source.max_labels
        assert "a label is 2 numbers: height, age" in sources.summary(source)
        rows = pipeline.Rows(
            source=source,
            transform=transforms.parse("resize", (4, 4)),
            order=None,
            seed=0,
            batch_size=8,
            rows=range(8),
            padding=batch_lib.padding((4, 4), outputs=2),
        )
        (batch,) = pipeline.batches(rows, start=0, stop=1, threads=1, workers=0)
        assert batch["label"].dtype == np.float32 and batch["label"].shape == (8, 2)
        size = splits.count(split)
        assert batch["mask"].sum() == size and not batch["label"][size:].any()
        known = {p.tobytes(): n.tolist() for p, n in zip(pixels, numbers, strict=True)}
        expected = [known[image.tobytes()] for image in batch["image"][:size]]
        np.testing.assert_array_equal(batch["label"][:size], np.float32(expected))
        part = fraction_of(source, 0.5, 0)
        assert label_kinds.of(part) == label_kinds.Labels("values") and part.classes == NAMES


@pytest.mark.parametrize("form", FORMS)
def test_prepared_they_give_the_same_names_order_and_batches(form, made, tmp_path):
    dataset, key = FORMS[form](made, tmp_path)
    ready = prepared(dataset, tmp_path / "tfds", label_key=key)
    for split in ("train", "test", "train[25%:75%]+test"):
        source = sources.open_source(dataset, split, reading=Reading(label_key=key))
        stored = ready(split)
        assert len(stored) == len(source) and stored.classes == source.classes
        assert label_kinds.of(stored) == label_kinds.of(source)
        batch, again = first_batch(source, outputs=2), first_batch(stored, outputs=2)
        for name in batch:
            np.testing.assert_array_equal(batch[name], again[name])
    turned = Reading(source.classes[::-1])
    turned = sources.open_source("mine", "test", tmp_path / "tfds", turned)
    assert turned.classes == source.classes[::-1]
    assert turned[3]["label"] == ready("test")[3]["label"][::-1]


def test_names_follow_the_models_order(made, tmp_path):
    dataset, _ = arrays(made, tmp_path)
    source = sources.open_source(dataset, "test")
    turned = sources.open_source(dataset, "test", reading=Reading(NAMES[::-1]))
    assert turned.classes == NAMES[::-1] and source.classes == NAMES
    assert [row["label"] for row in map(turned.__getitem__, range(4))] == [
        row["label"][::-1] for row in map(source.__getitem__, range(4))
    ]
    # Other names are another data set's.
    assert sources.open_source(dataset, "test", reading=Reading(("a", "b"))).classes == NAMES
    assert label_kinds.order_of(("0", "1"), ("a", "b")) == (("a", "b"), [0, 1])


@pytest.mark.parametrize(
    "rows, kind",
    [
        ([[0.25, 0.75], [1, 0]], "distribution"),
        ([[0.3333, 0.3333, 0.3333]], "distribution"),
        ([[0.25, 0.75], [1, 1]], "probabilities"),
        ([[0.25, 0.75], [1, 0], [-0.1, 1.1]], "values"),
        ([[1.0], [0.5]], "values"),
    ],
)
def test_the_kind_is_the_narrowest_that_fits_all_rows(rows, kind, tmp_path):
    rows = np.array(rows)
    assert label_kinds.kind_of(rows) == kind
    np.savez(tmp_path / "a.npz", x_train=np.zeros((len(rows), 4, 4), np.uint8), y_train=rows)
    source = sources.open_source(f"arrays:{tmp_path}/a.npz", "train")
    assert label_kinds.of(source).kind == kind
    one = rows.shape[1] == 1
    assert source.classes == (("y",) if one else label_kinds.numbered(rows.shape[1]))
    stored = prepared(source.name, tmp_path / "tfds")("train")
    assert label_kinds.of(stored).kind == kind and stored.classes == source.classes
    wanted = [np.float32(source[i]["label"]) for i in range(len(rows))]
    np.testing.assert_array_equal([stored[i]["label"] for i in range(len(rows))], wanted)


def test_the_kind_is_that_of_all_splits_and_files_without_vectors_are_described_as_ever(tmp_path):
    images = {f"x_{split}": np.zeros((1, 4, 4), np.uint8) for split in ("train", "test")}
    np.savez(tmp_path / "a.npz", **images, y_train=[[0.5, 0.5]], y_test=[[0.5, 0.6]])
    stored = prepared(f"arrays:{tmp_path}/a.npz", tmp_path / "vectors")("train")
    assert label_kinds.of(stored).kind == "probabilities"
    np.savez(tmp_path / "b.npz", **images, y_train=[0], y_test=[1])
    prepared(f"arrays:{tmp_path}/b.npz", tmp_path / "classes")
    keys = json.loads((tmp_path / "classes" / "mine" / "1.0.0" / "metadata.json").read_text())
    assert [*keys] == [
        *("source", "split", "shard_bytes", "dedup_against", "fingerprint"),
        *("format", "archives", "splits", "classes"),
    ]


class Made:
    """A user's own source of vectors."""

    name, split, classes = "made", "train", ("a", "b", "c")

    def __init__(self, label, label_kind="distribution"):
        self.label, self.label_kind = label, label_kind

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return {"image": np.zeros((4, 4, 3), np.uint8), "label": self.label}

    def where(self, index):
        return f"made, example {index}"


@pytest.mark.parametrize(
    "label, kind, message",
    [
        ([0.5, 0.4, 0.2], "distribution", "expected distributions over the classes"),
        ([1.5, -0.5, 0.0], "distribution", "expected distributions over the classes"),
        ([0.5, 1.4, 0.2], "probabilities", "expected probabilities of the classes"),
        ([0.5, np.nan, 9], "values", "expected finite numbers"),
        ([0.5, 0.5], "values", "expected 3 numbers"),
        ("abc", "values", "expected 3 numbers"),
        (1, "values", "expected 3 numbers"),
    ],
)
def test_a_label_that_is_not_of_the_sources_kind_is_named(label, kind, message):
    padding = batch_lib.padding((4, 4), outputs=3)["label"]
    with pytest.raises(ValueError, match=f"its label is .*: {message}"):
        pipeline.label_row(label, padding, 3, kind)
    good = [0.25, 0.5, 0.25]
    np.testing.assert_array_equal(pipeline.label_row(good, padding, 3, kind), good)


def test_a_registered_source_says_what_its_labels_are():
    assert label_kinds.of(Made([])) == label_kinds.Labels("distribution")
    assert "a label is 3 numbers that add up to 1: a, b, c" in sources.summary(Made([]))
    with pytest.raises(errors.BadInput, match="unknown label_kind of the source made 'value'"):
        label_kinds.of(Made([], "value"))


def jsonl(place, *rows):
    for row in rows:
        (place / row["path"]).write_bytes(png(np.zeros((4, 4, 3), np.uint8)))
    (place / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"manifest:{place}/m.jsonl"


@pytest.mark.parametrize(
    "rows, key, message",
    [
        ([{"x": 1}], "y", "line 1: unknown column in config.input.label_key 'y'"),
        ([{"x": "cat"}], "x", "line 1: x 'cat': expected a number.*classes is called label"),
        ([{"x": True}], "x", "x True: expected a number"),
        ([{"x": [1, 2]}, {"x": [1]}], "x", "1.png: its label is .*: expected 2 numbers"),
        ([{"x": 1}, {"x": float("nan")}], "x", "line 2: x nan: it has no number"),
        ([{"x": 1}], "", "expected either 'label' or 'labels'.*label_key=X,Y reads columns"),
    ],
)
def test_rows_without_such_numbers_are_refused(rows, key, message, tmp_path):
    dataset = jsonl(tmp_path, *({"path": f"{i}.png"} | row for i, row in enumerate(rows)))
    with pytest.raises(errors.BadInput, match=message):
        sources.open_source(dataset, "train", reading=Reading(label_key=key))
    with pytest.raises(errors.BadInput, match=message.replace("1.png:", "'1.png':")):
        prepared(dataset, tmp_path / "tfds", label_key=key)
    assert not (tmp_path / "tfds").exists()


def test_columns_that_are_no_numbers_and_names_that_do_not_fit_are_refused(made, tmp_path):
    table = {"image": [png(made[0][0])], "a": [1.5], "b": ["x"]}
    pq.write_table(pa.table(table), tmp_path / "train.parquet")
    with pytest.raises(errors.BadInput, match="column b is string: expected numbers, as"):
        sources.open_source(f"parquet:{tmp_path}", "train", reading=Reading(label_key="a,b"))
    with pytest.raises(errors.BadInput, match="unknown column of .* in config.input.label_key 'c'"):
        sources.open_source(f"parquet:{tmp_path}", "train", reading=Reading(label_key="a,c"))
    images = np.zeros((2, 4, 4), np.uint8)
    np.savez(tmp_path / "a.npz", images=images, labels=np.zeros((2, 3)), classes=["a", "b"])
    with pytest.raises(errors.BadInput, match="labels has 3 numbers for each image, but 2 names"):
        sources.open_source(f"arrays:{tmp_path}/a.npz", "train")
