"""Several data sets as one source."""

import numpy as np
import pytest
import sharded
from PIL import Image

from mixer import errors
from mixer.data import sources
from mixer.data.sources import staging
from mixer.data.sources.mixture import Mixture


def folder_of(root, names, count=3):
    for name in names:
        (root / "train" / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (6, 5), "grey").save(root / "train" / name / f"{i}.png")
    return sources.open_source(f"folder:{root}", "train")


def test_classes_are_united_by_name(tmp_path):
    one, two = folder_of(tmp_path / "a", ("cat", "dog")), folder_of(tmp_path / "b", ("ant", "dog"))
    both = Mixture.of([one, two], [7, 3])
    assert both.classes == ("cat", "dog", "ant") and len(both) == 12
    for index in range(12):
        name = both.classes[both[index]["label"]]
        assert f"/{name}/" in both.where(index)
    assert both.every_label().tolist() == [both[i]["label"] for i in range(12)]
    assert both.frequencies() == pytest.approx([0.7 / 6] * 6 + [0.3 / 6] * 6)
    said = both.summary()
    assert "70 % of folder" in said and "0.3 passes per epoch" in said and "epoch is 6" in said
    assert "3 classes by name, 1 of them not in the first data set" in said


def test_numbers_are_no_names(tmp_path, data_dir):
    digits = sources.open_source("digits", "train", data_dir)
    few = folder_of(tmp_path / "few", ("0", "1"))
    with pytest.raises(errors.BadInput, match="digits and .*few are numbers without na.*10 c.*2 c"):
        Mixture.of([digits, few], [1, 1])
    same = sources.open_source("digits", "test", data_dir)
    assert Mixture.of([digits, same], [1, 1]).classes == tuple(digits.classes)


def test_one_and_several_labels_do_not_mix(tmp_path, data_dir):
    several = sources.open_source("jft", "full", data_dir)
    with pytest.raises(errors.BadInput, match="jft has several labels.*one label per image in"):
        Mixture.of([several, folder_of(tmp_path, ("cat", "dog"))], [1, 1])
    twice = Mixture.of([several, several], [1, 1])
    np.testing.assert_array_equal(twice[64 + 1]["label"], several[1]["label"])
    assert twice.max_labels == several.max_labels


def test_vectors_do_not_mix(tmp_path):
    images = np.zeros((4, 5, 5), np.uint8)
    np.savez(tmp_path / "a.npz", images=images, labels=np.eye(4, 3, dtype=np.float32))
    vectors = sources.open_source(f"arrays:{tmp_path / 'a.npz'}", "train")
    with pytest.raises(errors.BadInput, match="expected one label per image in both"):
        Mixture.of([vectors, vectors], [1, 1])


def test_each_part_stages_its_own_share(tmp_path):
    for name in ("one", "two"):
        sharded.write(tmp_path / "data" / name / "1.0.0", {"train": [4, 4]})
    place = tmp_path / "stage"
    one, two = (
        staging.open_staged(name, "train", tmp_path / "data", place) for name in ("one", "two")
    )
    both = Mixture.of([folder_of(tmp_path / "a", ("0", "1", "2")), one, two], [1, 1, 1])
    both.check_space([range(len(both))])
    both.stage([range(9 + 8 + 5, 9 + 8 + 6)])  # an example in the second shard of the last
    copied = [path.name for path in place.rglob("*array_record*")]
    assert copied == ["two-train.array_record-00001-of-00002"]
    both.stage([range(len(both))])
    assert both[9 + 8 + 7]["label"] == two[7]["label"]
    assert not hasattr(Mixture.of(both.parts[:1], [1]), "stage")
