"""Unusual TFDS datasets: features with other names, labels without names, damage."""

import io
import json
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from mixer import errors
from mixer.data import sources
from mixer.data.sources import records

FEATURES = {
    "img": tfds.features.Image(encoding_format="png"),
    "fine_label": tfds.features.ClassLabel(names=["apple", "bear"]),
    "coarse_label": tfds.features.ClassLabel(names=["food", "mammal"]),
    "number": tfds.features.Scalar(np.int64),
    "text": tfds.features.Text(),
}


def png():
    file = io.BytesIO()
    Image.new("RGB", (6, 5)).save(file, "PNG")
    file.seek(0)
    return file


@pytest.fixture
def odd(tmp_path):
    """A data_dir with `odd`: four images with labels 0 1 0 1, 1 0 1 0 if coarse, or 0 1 2 3."""
    examples = [
        {"img": png(), "fine_label": i % 2, "coarse_label": 1 - i % 2, "number": i, "text": "x"}
        for i in range(4)
    ]
    features = tfds.features.FeaturesDict(FEATURES)
    records.write_dataset(tmp_path / "odd" / "1.0.0", features, {"valid": examples}, "Odd.")
    return tmp_path


def labels(data_dir, **keys):
    reading = sources.Reading(image_key="img", **keys)
    source = sources.open_source("odd", "validation", data_dir, reading)
    assert source.split == "valid"
    return source.classes, [source[i]["label"] for i in range(4)]


def test_features_may_have_any_name(odd):
    assert labels(odd, label_key="fine_label") == (("apple", "bear"), [0, 1, 0, 1])
    assert labels(odd, label_key="coarse_label") == (("food", "mammal"), [1, 0, 1, 0])


def test_numbers_need_their_classes(odd):
    assert labels(odd, label_key="number", num_classes=9)[0] == tuple("012345678")
    names = tuple("abcd")
    assert labels(odd, label_key="number", classes=names) == (names, [0, 1, 2, 3])


def test_labels_follow_the_given_names(odd):
    """For example a model's, which may be more; names that do not match have no effect."""
    for classes, wanted in (
        (("bear", "apple"), [1, 0, 1, 0]),
        (("ant", "apple", "cat", "bear"), [1, 3, 1, 3]),
        (("apple", "bear"), [0, 1, 0, 1]),
    ):
        assert labels(odd, label_key="fine_label", classes=classes) == (classes, wanted)
    others = labels(odd, label_key="fine_label", classes=("apple", "cat"))
    assert others == (("apple", "bear"), [0, 1, 0, 1])


def test_numbers_are_not_names(data_dir):
    """Class 3 of ten is not class 3 of a thousand; the same numbers in another order do match."""

    def opened(*classes):
        return sources.open_source("digits", "train", data_dir, sources.Reading(classes))

    own = opened()
    assert opened(*map(str, range(1000))).classes == own.classes == tuple("0123456789")
    other = opened(*"9876543210")
    assert [other[i]["label"] for i in range(20)] == [9 - own[i]["label"] for i in range(20)]


def test_several_labels_also_follow_the_given_names(data_dir):
    own = sources.open_source("jft", "full[:9]", data_dir)
    names = ("more", *reversed(own.classes))
    other = sources.open_source("jft", "full[:9]", data_dir, sources.Reading(names))
    for i in range(9):
        found = [other.classes[label] for label in other[i]["label"]]
        assert found == [own.classes[label] for label in own[i]["label"]]


REFUSED = {
    "features coarse_label, fine_label, img, .* none is named image: set .*image_key=img": {},
    "none is named label or labels or real_label: set .*label_key=coarse_label or fine_label": {
        "image_key": "img"
    },
    "unknown feature in config.input.image_key 'imgs'. Did you mean 'img'": {"image_key": "imgs"},
    "its feature number is a number, .*: set config.model.num_classes, or config.input.class": {
        "image_key": "img",
        "label_key": "number",
    },
    "its feature text is Text.*, not a label .* set config.input.label_key to another of its "
    r"features, coarse_label, fine_label, img, number. A text is one if .*ClassLabel\(names=": {
        "image_key": "img",
        "label_key": "text",
    },
}


@pytest.mark.parametrize("message", REFUSED)
def test_other_features_are_refused_with_the_key_to_set(message, odd):
    with pytest.raises(errors.BadInput, match=message):
        sources.open_source("odd", "valid", odd, sources.Reading(**REFUSED[message]))


@pytest.mark.parametrize("file", ["dataset_info.json", "features.json"])
@pytest.mark.parametrize("damage", ["missing", "cut", "empty", "binary", "[]", "{}", "3"])
@pytest.mark.parametrize("name", ["digits", "digits:1.0.0"])
def test_damaged_descriptions_are_named(file, damage, name, data_dir, tmp_path):
    place = tmp_path / "digits" / "1.0.0"
    shutil.copytree(data_dir / "digits" / "1.0.0", place)
    whole = (place / file).read_bytes()
    content = {"cut": whole[: len(whole) // 2], "empty": b"", "binary": b"\xff\xfe\0"}
    if damage == "missing":
        (place / file).unlink()
    else:
        (place / file).write_bytes(content.get(damage, damage.encode()))
    with pytest.raises(errors.BadInput) as raised:
        sources.open_source(name, "train", tmp_path)
    message = str(raised.value)
    assert f"{place / file} " in message and f"delete {place} and prepare" in message
    assert "\n" not in message and "Did you mean" not in message


def test_existing_versions_are_named(odd):
    with pytest.raises(errors.BadInput, match="'odd' is prepared in version 1.0.0, not 2.0.0"):
        sources.open_source("odd:2.0.0", "valid", odd)


def test_hugging_face_datasets_are_refused(tmp_path):
    with pytest.raises(errors.BadInput, match="'huggingface:cifar10': .*PATH/<split>/<class>"):
        sources.open_source("huggingface:cifar10", "train", tmp_path)


def test_a_split_whose_metadata_lists_no_examples_is_refused(data_dir, tmp_path):
    place = tmp_path / "digits" / "1.0.0"
    shutil.copytree(data_dir / "digits" / "1.0.0", place)
    info = json.loads((place / "dataset_info.json").read_text())
    info["splits"][0]["shardLengths"] = []
    (place / "dataset_info.json").write_text(json.dumps(info))
    with pytest.raises(errors.BadInput, match="contains no examples; the dataset has test"):
        sources.open_source("digits", "train", tmp_path)
