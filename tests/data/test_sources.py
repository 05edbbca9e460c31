import pickle

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from sklearn.datasets import load_digits

from mixer import errors
from mixer.data import sources
from mixer.data.decode import decode
from mixer.data.sources import records


def test_digits_are_scikit_learns(data_dir):
    known = load_digits()
    originals = {
        (image * 255 / 16).round().astype(np.uint8).tobytes(): int(label)
        for image, label in zip(known.images, known.target, strict=True)
    }
    train = sources.open_source("digits", "train", data_dir)
    test = sources.open_source("digits", "test", data_dir)
    assert (len(train), len(test)) == (1437, 360)
    assert train.classes == tuple("0123456789")
    seen = []
    for source in (train, test):
        for i in range(len(source)):
            example = source[i]
            assert isinstance(example["image"], bytes)
            pixels = decode(example["image"])[..., 0].tobytes()
            assert originals[pixels] == example["label"]
            seen.append(pixels)
    assert len(set(seen)) == len(originals)
    counts = np.bincount([test[i]["label"] for i in range(360)], minlength=10)
    assert counts.min() >= 20


def test_digits_are_an_ordinary_tfds_dataset(data_dir):
    builder = tfds.builder_from_directory(data_dir / "digits" / "1.0.0")
    example = builder.as_data_source("train")[0]
    assert example["image"].shape == (8, 8, 1)
    assert builder.info.splits["test"].num_examples == 360


def test_split_ranges_are_tfds_ranges(data_dir):
    whole = sources.open_source("digits", "train", data_dir)
    part = sources.open_source("digits", "train[98%:]+test[:3]", data_dir)
    assert len(part) == 1437 - round(0.98 * 1437) + 3
    assert part[0] == whole[round(0.98 * 1437)]


def test_interrupted_preparation_leaves_nothing(tmp_path):
    features = tfds.features.FeaturesDict({"label": tfds.features.ClassLabel(num_classes=2)})

    def broken():
        yield {"label": 1}
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        records.write_dataset(tmp_path / "d" / "1.0.0", features, {"train": broken()}, "")
    assert list((tmp_path / "d").iterdir()) == []


def test_folder(image_folder):
    train = sources.open_source(f"folder:{image_folder}", "train")
    test = sources.open_source(f"folder:{image_folder}", "test")
    assert (len(train), len(test)) == (35, 12)
    assert train.classes == ("cat", "dog", "eel")
    for i in range(len(train)):
        example = train[i]
        assert decode(example["image"]).mean() // 80 == example["label"]
        assert f"train/{train.classes[example['label']]}/" in train.where(i)
    again = pickle.loads(pickle.dumps(train))
    assert [again[i]["label"] for i in range(35)] == [train[i]["label"] for i in range(35)]


def test_folder_without_splits_is_all_train(image_folder):
    source = sources.open_source(f"folder:{image_folder / 'train'}", "train")
    assert len(source) == 35
    with pytest.raises(errors.BadInput, match="Unknown split 'test'.*train \\(35\\). .*90%"):
        sources.open_source(f"folder:{image_folder / 'train'}", "test")


def test_a_range_of_a_folder_contains_every_class_in_proportion(tmp_path):
    sizes = {"a": 3000, "b": 2000, "c": 1000}
    for name, size in sizes.items():
        (tmp_path / "train" / name).mkdir(parents=True)
        for i in range(size):
            (tmp_path / "train" / name / f"{i:05}.jpg").touch()
    for split, share in (("train[98%:]", 0.02), ("train[:10%]", 0.1), ("train[40%:60%]", 0.2)):
        source = sources.open_source(f"folder:{tmp_path}", split)
        counts = np.bincount([label for _, label in source.files], minlength=3)
        expected = share * np.array(list(sizes.values()))
        assert (np.abs(counts - expected) < 4 * np.sqrt(expected)).all(), split


def test_order_of_a_folder_does_not_depend_on_its_location(image_folder, tmp_path):
    first = sources.open_source(f"folder:{image_folder}", "train")
    moved = tmp_path / "elsewhere"
    image_folder.rename(moved)
    assert sources.open_source(f"folder:{moved}", "train").files == first.files


def test_bad_datasets_are_refused(tmp_path, image_folder, data_dir):
    def refused(dataset, split, message):
        with pytest.raises(errors.BadInput, match=message):
            sources.open_source(dataset, split, data_dir)

    refused("digts", "train", "unknown dataset 'digts'. Did you mean 'digits'")
    refused("digits", "tset", "split 'tset' of digits.*test \\(360\\), train \\(1,437\\)")
    refused("digits", "train[:", "split")
    refused("digits", "train[5000:]", "split")
    refused("cifar10", "train", "pip install -r requirements-prepare.txt .*download_and_prepare")
    refused(f"folder:{tmp_path / 'no'}", "train", "is not a folder")
    (tmp_path / "flat").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "flat" / "a.png")
    refused(f"folder:{tmp_path / 'flat'}", "train", "expected PATH/train/<class>")
    (image_folder / "test" / "fox").mkdir()
    refused(f"folder:{image_folder}", "test", "classes that the training split lacks: fox")


def test_the_error_for_unprepared_imagenet_has_our_own_command(tmp_path):
    with pytest.raises(errors.BadInput, match="--config.run=prepare .*ILSVRC2012_img_train.tar"):
        sources.open_source("imagenet2012", "train", tmp_path)


def test_tfrecord_datasets_are_refused_with_the_command_that_converts(tmp_path, data_dir):
    import json
    import shutil

    copy = tmp_path / "digits" / "1.0.0"
    shutil.copytree(data_dir / "digits" / "1.0.0", copy)
    info = json.loads((copy / "dataset_info.json").read_text())
    (copy / "dataset_info.json").write_text(json.dumps(info | {"fileFormat": "tfrecord"}))
    with pytest.raises(errors.BadInput, match="TFRecord.*--dataset_version_dir"):
        sources.TfdsSource.open("digits", "train", tmp_path, tmp_path)
