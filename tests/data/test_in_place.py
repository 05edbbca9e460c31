"""Data read where they lie: every form of a data set gives the same examples in the same order."""

import io
import json
import pickle
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from configs import arguments
from mixer import batch as batch_lib
from mixer import errors
from mixer.data import order as order_lib
from mixer.data import pipeline, sources, transforms
from mixer.data.decode import decode
from mixer.prepare import dataset, readers

CLASSES = ("airplane", "bird", "cat")
SIZES = {"train": 40, "test": 12}


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def made():
    """{split: (pixels uint8 [N, 32, 32, 3], labels [N])}, the classes in no order."""
    rng = np.random.default_rng(0)
    return {
        split: (
            rng.integers(0, 256, (size, 32, 32, 3), np.uint8),
            np.concatenate([np.arange(3), rng.integers(0, 3, size - 3)]),
        )
        for split, size in SIZES.items()
    }


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MIXER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def tar_of(path, members, mode="w"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def table_of(pixels, labels, hub=True, **columns):
    """A table as Hugging Face's `datasets` writes it."""
    images = [{"bytes": png(p), "path": None} for p in pixels]
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    table = pa.table({"image": pa.array(images, kind), "label": labels} | columns)
    names = {"_type": "ClassLabel", "names": list(CLASSES)}
    info = {"info": {"features": {"image": {"_type": "Image"}, "label": names}}}
    return table.replace_schema_metadata({"huggingface": json.dumps(info)} if hub else None)


def as_folder(made, root):
    for split, (pixels, labels) in made.items():
        for row, (image, label) in enumerate(zip(pixels, labels, strict=True)):
            file = root / split / CLASSES[label] / f"{row:05d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(png(image))
    return f"folder:{root}"


def as_manifest(made, root):
    as_folder(made, root)
    rows = [f"{p.relative_to(root)},{p.parent.name},{p.parts[-3]}" for p in root.rglob("*.png")]
    (root / "list.csv").write_text("\n".join(["path,label,split", *rows]))
    return f"manifest:{root}/list.csv"


def as_parquet(made, root):
    (root / "data").mkdir(parents=True)
    for split, (pixels, labels) in made.items():
        half = len(labels) // 2
        for part, rows in enumerate((slice(half), slice(half, None))):
            file = root / "data" / f"{split}-0000{part}-of-00002.parquet"
            pq.write_table(table_of(pixels[rows], labels[rows]), file, row_group_size=7)
    return f"parquet:{root}"


def as_webdataset(made, root):
    for split, (pixels, labels) in made.items():
        for part in range(2):
            members = {}
            for row in range(part, len(labels), 2):
                members[f"{row:05d}.png"] = png(pixels[row])
                members[f"{row:05d}.cls"] = CLASSES[labels[row]].encode()
            tar_of(root / split / f"{part}.tar", members)
    return f"webdataset:{root}"


def as_npz(made, root):
    root.mkdir(parents=True)
    arrays = {f"x_{split}": pixels for split, (pixels, _) in made.items()}
    arrays |= {f"y_{split}": labels[:, None] for split, (_, labels) in made.items()}
    np.savez(root / "a b.npz", classes=np.array(CLASSES), **arrays)
    return f"arrays:{root}/a b.npz"


def as_npy(made, root):
    root.mkdir(parents=True)
    np.save(root / "classes.npy", np.array(CLASSES))
    for split, (pixels, labels) in made.items():
        np.save(root / f"{split}_images.npy", pixels)
        np.save(root / f"{split}_labels.npy", labels)
    return f"arrays:{root}"


def planes(pixels):
    return pixels.transpose(0, 3, 1, 2).reshape(len(pixels), 3072)


def batches_of(made):
    """{file: (pixels, labels)} as CIFAR-10 divides them."""
    parts = [np.arange(i, i + 8) for i in range(0, 40, 8)]
    found = {f"data_batch_{i}": [a[p] for a in made["train"]] for i, p in enumerate(parts, 1)}
    return found | {"test_batch": made["test"]}


def text(value):
    return b"U" + bytes([len(value)]) + value.encode()


def pickled_by_python_2(pixels, labels):
    """{"data": pixels, "labels": labels} as the published archive has it: text is bytes."""
    size = b"M" + len(pixels).to_bytes(2, "little") + b"M" + (3072).to_bytes(2, "little")
    state = b"(K\x03" + text("|") + b"NNN" + 2 * b"J\xff\xff\xff\xff" + b"K\x00tb"
    kind = b"cnumpy\ndtype\n(" + text("u1") + b"K\x00K\x01tR" + state
    content = b"T" + (3072 * len(pixels)).to_bytes(4, "little") + planes(pixels).tobytes()
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t" + text("b") + b"tR"
    array += b"(K\x01(" + size + b"t" + kind + b"\x89" + content + b"tb"
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}(" + text("data") + array + text("labels") + numbers + b"u."


def as_python_archive(made, root):
    names = b"](" + b"".join(map(text, CLASSES)) + b"e"
    files = {"batches.meta": b"\x80\x02}(" + text("label_names") + names + b"u."}
    for name, (pixels, labels) in batches_of(made).items():
        files[name] = pickled_by_python_2(pixels, labels.tolist())
    pickled = {f"cifar-10-batches-py/{n}": c for n, c in files.items()}
    return f"cifar:{tar_of(root / 'cifar-10-python.tar.gz', pickled, 'w:gz')}"


def as_binary_folder(made, root):
    (root / "cifar-10-batches-bin").mkdir(parents=True)
    for name, (pixels, labels) in batches_of(made).items():
        records = np.concatenate([labels.astype(np.uint8)[:, None], planes(pixels)], 1)
        (root / "cifar-10-batches-bin" / f"{name}.bin").write_bytes(records.tobytes())
    (root / "cifar-10-batches-bin/batches.meta.txt").write_text("\n".join(CLASSES) + "\n\n")
    return f"cifar:{root}"


FORMS = (
    as_folder,
    as_manifest,
    as_parquet,
    as_webdataset,
    as_npz,
    as_npy,
    as_python_archive,
    as_binary_folder,
)


def first_batch(source):
    rows = pipeline.Rows(
        source=source,
        transform=transforms.parse("inception_crop|flip_lr", (16, 16)),
        order=order_lib.Full(len(source), 0),
        seed=0,
        batch_size=8,
        rows=range(8),
        padding=batch_lib.padding((16, 16), 0),
    )
    return next(pipeline.batches(rows, start=0, stop=1, threads=2, workers=0))


def pixels_of(example):
    image = example["image"]
    return decode(image) if isinstance(image, bytes) else image


def prepared(source, data_dir, **keys):
    job = dataset.Preparation(
        source=source,
        reader=readers.open_reader(source, **keys),
        target=data_dir / "mine" / "1.0.0",
        split="train",
        shard_bytes=20_000,
        processes=1,
        dedup_against="",
        test_sets=[],
    )
    assert dataset.prepare(job, accept=lambda: None, stop=lambda: False)
    return lambda split: sources.open_source("mine", split, data_dir)


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


def open_(place, split="train", **reading):
    return sources.open_source(place, split, reading=sources.Reading(**reading))


def test_columns_are_chosen_by_metadata_then_by_name_then_by_the_user(tmp_path):
    pixels, labels = np.zeros((4, 8, 8, 3), np.uint8), np.array([0, 1, 2, 1])
    coarse = pa.array([5, 6, 5, 6])
    file = tmp_path / "train.parquet"
    place = f"parquet:{file}"
    pq.write_table(table_of(pixels, labels, hub=False, coarse=coarse), file)
    numbers = open_(place)
    assert numbers.classes == ("0", "1", "2") and "labels are their numbers" in numbers.summary()
    assert open_(place, classes=CLASSES).classes == CLASSES
    assert open_(place, label_key="coarse").classes == tuple("0123456")
    assert open_(place, num_classes=9).classes == tuple("012345678")
    with pytest.raises(errors.BadInput, match="largest label is 2, but there are 2 classes"):
        open_(place, num_classes=2)
    with pytest.raises(errors.BadInput, match=r"'lable' in|'lable'.*'label'"):
        open_(place, label_key="lable")
    with pytest.raises(errors.BadInput, match=r"label is struct|image is struct.*not a label"):
        open_(place, label_key="image")
    table = table_of(pixels, labels, hub=False).rename_columns(["photo", "fine"])
    pq.write_table(table, file)
    with pytest.raises(errors.BadInput, match=r"train.parquet: which column is the label.*photo"):
        open_(place)
    assert len(open_(place, label_key="fine")) == 4


def test_parquet_with_paths_texts_lists_and_missing_values(image_folder, tmp_path):
    files = sorted(str(p.relative_to(image_folder)) for p in image_folder.rglob("train/*/*.png"))
    texts = pa.array([name.split("/")[1] for name in files])
    pq.write_table(pa.table({"path": files, "label": texts}), image_folder / "train.parquet")
    place = f"parquet:{image_folder / 'train.parquet'}"
    known = sources.open_source(f"folder:{image_folder}", "train")
    assert [open_(place)[i] for i in range(len(files))] == [known[i] for i in range(len(files))]

    several = pa.array([["cat", "dog"]] + [["cat"]] * (len(files) - 1))
    pq.write_table(pa.table({"path": files, "label": several}), image_folder / "train.parquet")
    both = open_(place)
    found = sorted(both[i]["label"] for i in range(len(both)))
    assert both.max_labels == 2 and found == [(0,)] * (len(files) - 1) + [(0, 1)]

    holes = pa.array([None, *texts.to_pylist()[1:]])
    pq.write_table(pa.table({"path": files, "label": holes}), image_folder / "train.parquet")
    with pytest.raises(errors.BadInput, match=r"train.parquet, column path, row 0 .*has no label"):
        open_(place)


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


def test_the_same_table_twice_and_damaged_tables_are_refused(made, tmp_path):
    as_parquet(made, tmp_path / "one")
    as_parquet(made, tmp_path / "two")
    with pytest.raises(errors.BadInput, match=r"several data sets\? Name one of the folders"):
        open_(f"parquet:{tmp_path}")
    file = tmp_path / "one/data/test-00000-of-00002.parquet"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(errors.BadInput, match=r"test-00000-of-00002.parquet cannot be read"):
        open_(f"parquet:{tmp_path / 'one'}")
    with pytest.raises(errors.Missing, match="is not a file or folder"):
        open_(f"parquet:{tmp_path / 'three'}")
    with pytest.raises(errors.BadInput, match="expected a path on this machine"):
        open_("webdataset:gs://bucket/a")


def test_a_webdataset_is_listed_once_and_its_labels_may_be_in_json(made, tmp_path, cache):
    pixels, labels = made["train"]
    members = {}
    for row, label in enumerate(labels):
        members[f"{row}.jpg"] = members[f"{row}.depth.png"] = png(pixels[row])
        members[f"{row}.json"] = json.dumps({"class_id": int(label), "tags": {}}).encode()
    file = tar_of(tmp_path / "train-0.tar", members)
    place = f"webdataset:{file}"
    with pytest.raises(errors.BadInput, match=r"'0': expected one image.*jpg, depth.png, json"):
        open_(place)
    with pytest.raises(errors.BadInput, match=r"'0': no label 'cls'.*fields class_id: set"):
        open_(place, image_key="jpg")
    source = open_(place, image_key="jpg", label_key="class_id")
    assert sorted(source[i]["label"] for i in range(40)) == sorted(labels)
    (index,) = (cache / "tars").iterdir()
    index.write_bytes(index.read_bytes().replace(b'"class_id": 2', b'"class_id": 1'))
    cached = open_(place, image_key="jpg", label_key="class_id")
    assert cached.classes == ("0", "1")  # the tar was not read again
    tar_of(file, members | {"0.cls": b"1"})
    with pytest.raises(errors.BadInput, match="'0' are not next to each other"):
        open_(place, image_key="jpg", label_key="class_id")


class Call:
    def __reduce__(self):
        import os

        return os.system, ("true",)


def test_a_pickle_that_calls_something_is_never_executed(made, tmp_path):
    place = tmp_path / as_python_archive(made, tmp_path).removeprefix("cifar:")
    with tarfile.open(place) as tar:
        members = {m.name: tar.extractfile(m).read() for m in tar}
    name = "cifar-10-batches-py/data_batch_3"
    tar_of(place, members | {name: pickle.dumps(Call(), protocol=2)}, "w:gz")
    with pytest.raises(errors.BadInput, match=r"data_batch_3 cannot be read: it calls \w+.system"):
        open_(f"cifar:{place}")
    del members[name]
    tar_of(place, members, "w:gz")
    with pytest.raises(errors.BadInput, match="data_batch_3 of cifar-10-batches-py is missing"):
        open_(f"cifar:{place}")


def test_cifar_100_has_two_kinds_of_labels(made, tmp_path):
    content = {}
    for split, (pixels, labels) in made.items():
        content[split] = {b"data": planes(pixels), b"fine_labels": labels.tolist()}
        content[split][b"coarse_labels"] = (labels // 2).tolist()
    fine = [name.encode() for name in CLASSES]
    content["meta"] = {b"fine_label_names": fine, b"coarse_label_names": [b"flies", b"walks"]}
    for name, each in content.items():
        (tmp_path / name).write_bytes(pickle.dumps(each, protocol=2))
    place = f"cifar:{tmp_path}"
    assert open_(place).classes == CLASSES
    coarse = open_(place, label_key="coarse_labels")
    assert coarse.classes == ("flies", "walks")
    numbers = [int(where.split("image ")[1].split()[0]) for where in map(coarse.where, range(40))]
    assert [coarse[i]["label"] for i in range(40)] == (made["train"][1] // 2)[numbers].tolist()
    with pytest.raises(errors.BadInput, match="'coarse'. Did you mean 'coarse_labels'"):
        open_(place, label_key="coarse")


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"images": np.zeros((2, 4, 4), np.float32), "labels": [0, 1]}, "images is float32"),
        ({"images": np.zeros((2, 4, 4), np.uint8), "labels": [0.0j, 1]}, "labels is complex128"),
        ({"images": np.zeros((2, 4, 4), np.uint8), "labels": [0, 1, 1]}, r"labels is int64 \[3\]"),
        ({"x_train": np.zeros((2, 4, 4), np.uint8)}, "none for the labels of train"),
        ({"a": [1], "b": [2]}, "It has a, b;"),
    ],
)
def test_arrays_of_other_types_are_refused(arrays, message, tmp_path):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(errors.BadInput, match=message):
        open_(f"arrays:{tmp_path / 'a.npz'}")
