"""Every kind of source, read back from the prepared dataset."""

import csv
import json
import os
import threading

import pytest
import tensorflow_datasets as tfds

from mixer.data import sources
from mixer.data.sources.hash_order import hash_key
from mixer.prepare import imagenet


def sums(folder):
    """{file: checksum} of the shards, without the dataset's name."""
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    return {line.split("-", 1)[1]: line.split()[0] for line in lines}


def test_a_prepared_folder_has_the_same_examples(image_folder, images, prepare, read):
    folder = prepare(f"folder:{image_folder}")
    for split in ("train", "test"):
        before = sources.open_source(f"folder:{image_folder}", split)
        assert read(folder, split) == [before[i] for i in range(len(before))]
    builder = tfds.builder_from_directory(folder)
    assert builder.info.features["label"].names == ["cat", "dog", "eel"]
    assert builder.info.splits["train"].num_shards > 1
    names = [example["file_name"].decode() for example in builder.as_data_source("train")]
    assert names == sorted(names, key=hash_key)
    assert set(names) == {name for name in images if name.startswith("train/")}


def test_every_kind_of_source_gives_the_same_shards(image_folder, images, prepare, tar, tmp_path):
    expected = sums(prepare(f"folder:{image_folder}", "a"))
    assert len(expected) > 4
    assert sums(prepare(f"tar:{tar('b.tar', images)}", "b")) == expected
    dotted = {f"./{name}": data for name, data in images.items()}
    assert sums(prepare(f"tar:{tar('c.tar.gz', dotted, 'w:gz')}", "c")) == expected

    halves = [dict(list(images.items())[i::2]) for i in range(2)]
    for i, half in enumerate(halves):
        tar(f"part{i}.tar", half)
    assert sums(prepare(f"tar:{tmp_path}/part*.tar", "d")) == expected

    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    content = (tmp_path / "b.tar").read_bytes()
    writer = threading.Thread(target=lambda: fifo.write_bytes(content))
    writer.start()
    assert sums(prepare(f"tar:{fifo}", "e")) == expected
    writer.join()

    with (image_folder / "list.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["split", "label", "path"])
        table.writerows([*name.split("/")[:2], name] for name in images)
    assert sums(prepare(f"manifest:{image_folder / 'list.csv'}", "f")) == expected


def test_tar_without_splits_is_train(images, prepare, read, tar):
    flat = {name.removeprefix("train/"): d for name, d in images.items() if name[1] == "r"}
    others = {"cat/notes.json": b"{}", "cat/._0.png": b"of a Mac"}
    folder = prepare(f"tar:{tar('flat.tar', flat | others)}")
    assert sorted(e["image"] for e in read(folder, "train")) == sorted(flat.values())


def test_a_folder_around_the_splits_is_ignored(images, prepare, read, tar):
    around = {f"./photos-v2/{name}": data for name, data in images.items()}
    folder = prepare(f"tar:{tar('around.tar', around)}")
    expected = sorted((d, ("cat", "dog", "eel").index(n.split("/")[1])) for n, d in images.items())
    found = [(e["image"], e["label"]) for split in ("train", "test") for e in read(folder, split)]
    assert sorted(found) == expected


@pytest.mark.parametrize("way", ["nested", "compressed", "separate"])
def test_tars_of_one_class_as_in_imagenet_21k(way, images, prepare, read, tar, tmp_path):
    wnids = ("n00004475", "n00005787", "n00006024")
    inner, expected = {}, []
    for label, (wnid, name) in enumerate(zip(wnids, ("cat", "dog", "eel"), strict=True)):
        of_class = [data for path, data in images.items() if f"train/{name}" in path]
        files = {f"{wnid}_{i}.JPEG": data for i, data in enumerate(of_class)}
        inner[f"winter21_whole/{wnid}.tar"] = tar(f"{wnid}.tar", files).read_bytes()
        expected += [(data, label) for data in of_class]
    source = {
        "nested": lambda: tar("whole.tar", inner),
        "compressed": lambda: tar("whole.tar.gz", inner, "w:gz"),
        "separate": lambda: tmp_path / "n*.tar",
    }[way]()
    folder = prepare(f"tar:{source}", split="full")
    assert sorted((e["image"], e["label"]) for e in read(folder, "full")) == sorted(expected)


@pytest.fixture
def tiny_imagenet(images, tar, tmp_path, monkeypatch):
    """Makes the tars of three classes; {file name: (wnid, bytes)} of both splits."""
    monkeypatch.setattr(
        imagenet.ImageNetReader, "expected", {"train": 35, "validation": len(VALIDATION)}
    )
    wnids = {"cat": "n02123045", "dog": "n02085620", "eel": "n01440764"}
    train, inner = {}, {}
    for name, wnid in wnids.items():
        of_class = [data for path, data in images.items() if path.startswith(f"train/{name}")]
        files = {f"{wnid}_{i * 7}.JPEG": data for i, data in enumerate(of_class)}
        train |= {file: (wnid, data) for file, data in files.items()}
        inner[f"{wnid}.tar"] = tar(f"{wnid}.tar", files).read_bytes()
    tar("ILSVRC2012_img_train.tar", inner)
    pictures = [data for path, data in images.items() if path.startswith("test/")]
    names = [f"ILSVRC2012_val_{i:08}.JPEG" for i in range(1, len(VALIDATION) + 1)]
    tar("ILSVRC2012_img_val.tar", dict(reversed(list(zip(names, pictures, strict=True)))))
    (tmp_path / "validation_labels.txt").write_text("\n".join(VALIDATION) + "\n")
    validation = zip(names, zip(VALIDATION, pictures, strict=True), strict=True)
    return {"train": train, "validation": dict(validation)}


VALIDATION = ("n01440764", "n02085620", "n02123045", "n02085620") * 3


def check_imagenet(folder, expected):
    builder = tfds.builder("imagenet2012", data_dir=folder.parents[1])
    assert str(builder.data_path) == str(folder)
    names = builder.info.features["label"].names
    for split, examples in expected.items():
        found = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
        assert {e["file_name"].decode(): (names[e["label"]], e["image"]) for e in found} == examples


def test_imagenet_tars_become_tfds_own_dataset(tiny_imagenet, prepare, tmp_path):
    folder = prepare(f"imagenet:{tmp_path}", "imagenet2012", version="5.1.0")
    check_imagenet(folder, tiny_imagenet)
    # The features in TFDS's own code, not those just written.
    own = tfds.builder("imagenet2012", data_dir=tmp_path / "nowhere").info.features
    written = tfds.features.FeaturesDict.from_config(folder)
    assert set(written) == set(own) and written["label"].names == own["label"].names
    assert written["image"].to_json_content() == own["image"].to_json_content()


def test_extracted_imagenet_is_the_same(tiny_imagenet, prepare, tmp_path):
    expected = sums(prepare(f"imagenet:{tmp_path}", "imagenet2012", version="5.1.0"))
    other = tmp_path / "extracted"
    for name, (wnid, data) in tiny_imagenet["train"].items():
        (other / "train" / wnid).mkdir(parents=True, exist_ok=True)
        (other / "train" / wnid / name).write_bytes(data)
    for i, (name, (_, data)) in enumerate(tiny_imagenet["validation"].items()):
        (other / "val" / str(i % 2)).mkdir(parents=True, exist_ok=True)
        (other / "val" / str(i % 2) / name).write_bytes(data)
    (tmp_path / "validation_labels.txt").rename(other / "validation_labels.txt")
    assert sums(prepare(f"imagenet:{other}", "imagenet2012", version="5.1.1")) == expected


def test_tfds_ships_the_labels_of_every_validation_image():
    shipped = tfds.core.tfds_path("datasets/imagenet2012")
    labels = (shipped / "validation_labels.txt").read_text().split()
    classes = (shipped / "labels.txt").read_text().split()
    assert len(labels) == 50_000 and {labels.count(wnid) for wnid in classes} == {50}


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_manifest_with_several_labels(kind, images, image_folder, tar, prepare):
    tar("images/shard.tar", {name: images[name] for name in list(images)[::2]})
    classes = ["fur", "four legs", "swims"]
    wanted, rows = {}, []
    for i, name in enumerate(images):
        path = f"shard.tar::{name}" if i % 2 == 0 else name
        wanted[path] = [classes[j] for j in range(3) if i >> j & 1]
        rows.append({"path": path, "labels": wanted[path]})
    manifest = image_folder / f"list.{kind}"
    if kind == "jsonl":
        manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        lines = [f"{row['path']},{';'.join(row['labels'])}" for row in rows]
        manifest.write_text("\n".join(["path,labels", *lines]))
    folder = prepare(f"manifest:{manifest}")
    builder = tfds.builder_from_directory(folder)
    assert builder.info.metadata["max_labels"] == 3
    names = builder.info.features["labels"].feature.names
    assert names == sorted(classes)
    source = sources.open_source("mine", "train", folder.parents[1])
    assert sources.max_labels(source) == 3 and len(source) == len(images)
    found = builder.as_data_source("train", decoders={"image": tfds.decode.SkipDecoding()})
    for example in found:
        path = example["file_name"].decode()
        assert [names[label] for label in example["labels"]] == wanted.pop(path)
        assert example["image"] == images[path.rpartition("::")[2]]
    assert not wanted


def test_integer_labels_are_themselves(images, image_folder, prepare, read):
    label_of = {data: i * 3 for i, data in enumerate(images.values())}
    rows = [{"path": name, "label": label_of[data]} for name, data in images.items()]
    manifest = image_folder / "list.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = prepare(f"manifest:{manifest}")
    assert {e["image"]: e["label"] for e in read(folder, "train")} == label_of
    features = tfds.builder_from_directory(folder).info.features
    assert features["label"].num_classes == 3 * (len(images) - 1) + 1
