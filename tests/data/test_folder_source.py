"""Real-world image folders: which are accepted, which are refused, and the messages."""

import os
import shutil
import unicodedata

import numpy as np
import pytest
from PIL import Image

from mixer import errors
from mixer.data import sources
from mixer.data.sources import splits
from mixer.data.sources.hash_order import hash_key


def fill(root, *paths):
    """Writes small images at these paths below `root`, and anything else as text."""
    for path in paths:
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix in (".jpg", ".png", ".ppm"):
            Image.new("RGB", (6, 5), "red").save(file)
        elif file.suffix == ".jfif":
            Image.new("RGB", (6, 5), "red").save(file, "JPEG")
        else:
            file.write_text("text")
    return root


def classes_in(root, folder, each=2, names=("cat", "dog")):
    """`each` images of each class in root/folder."""
    return fill(root, *(f"{folder}/{n}/{i}.png" for n in names for i in range(each)))


def open_(root, split, **reading):
    return sources.open_source(f"folder:{root}", split, reading=sources.Reading(**reading))


SPELLINGS = {
    "train": ("train", "Train", "training", "TRAINING"),
    "validation": ("val", "valid", "Validation", "dev"),
    "test": ("test", "Testing", "eval", "TEST"),
}


@pytest.mark.parametrize("place", range(4))
def test_splits_may_be_spelled_in_any_usual_way(place, tmp_path):
    sizes = {"train": 5, "validation": 3, "test": 2}
    for meaning, size in sizes.items():
        classes_in(tmp_path, SPELLINGS[meaning][place], size)
    for meaning, size in sizes.items():
        for written in SPELLINGS[meaning]:
            source = open_(tmp_path, f"{written}[:50%]")
            assert len(source) == size and source.split == f"{SPELLINGS[meaning][place]}[:50%]"
            assert source.classes == ("cat", "dog")
    dataset = f"folder:{tmp_path}"
    assert sources.split_to_train_on(dataset) == "train"
    assert sources.split_to_measure(dataset) == "test"
    shutil.rmtree(tmp_path / SPELLINGS["test"][place])
    assert sources.split_to_measure(dataset) == "validation"


def test_split_names_change_only_if_another_spelling_exists():
    assert splits.as_spelled("val[:9]+train", ["valid", "train"]) == "valid[:9]+train"
    assert splits.as_spelled("test", ["train"]) == "test"
    assert splits.as_spelled("val", ["val", "validation"]) == "val"
    assert splits.as_spelled("full[5:]", ["full"]) == "full[5:]"


def test_a_folder_without_splits_is_held_out_from_or_evaluated_whole(tmp_path, monkeypatch):
    """A part is held out if it was trained on, however its path is written."""
    classes_in(tmp_path, "mine", 30)
    dataset = f"folder:{tmp_path}/mine"
    assert sources.split_to_train_on(dataset) == "train[:90%]"
    monkeypatch.chdir(tmp_path)
    for same in (dataset, f"{dataset}/", "folder:mine", "folder:./mine/../mine"):
        assert sources.split_to_measure(dataset, trained_on=same) == "train[90%:]"
    for other in ("", "digits", f"folder:{tmp_path}"):
        assert sources.split_to_measure(dataset, trained_on=other) == "train"
    parts = [set(open_(tmp_path / "mine", split).files) for split in ("train[:90%]", "train[90%:]")]
    assert not parts[0] & parts[1] and parts[0] | parts[1] == set(open_("mine", "train").files)


REFUSED = {
    "Train and training both mean the split train": ["Train/a/1.png", "training/a/1.png"],
    "test, train in .* look like splits but are not": ["train/1.png", "test/2.png"],
    "test in .* look like splits": ["cat/1.png", "dog/1.png", "test/2.png"],
    "testA, trainA in .* look like splits": ["trainA/a/1.png", "testA/a/1.png"],
    "seg_test, seg_train in .* look": ["seg_pred/1.png", "seg_test/a/1.png", "seg_train/a/1.png"],
    "images contains test, train, which look .* did you mean folder:.*/images": [
        *("images/train/a/1.png", "images/train/b/1.png", "images/test/a/1.png"),
        "annotations/trimaps/1.png",
    ],
    "look like splits of one class: expected PATH/<split>/<class>": [
        *("cat/train/1.png", "cat/test/2.png", "dog/train/3.png", "dog/test/4.png"),
    ],
    "class 'Annotations' contains no images, only 2 .xml: fill": [
        *("Annotations/1.xml", "Annotations/2.xml", "JPEGImages/1.jpg"),
    ],
    "class 'zebra' contains no images, only 2 .heic": [
        *("train/cat/1.png", "train/zebra/1.heic", "train/zebra/2.HEIC"),
    ],
    "class 'empty' contains no images: fill or remove": [
        *("cat/1.png", "dog/1.png", "empty/.DS_Store"),
    ],
    "contains 1 folders.*Did you mean folder:.*/dataset/dataset": [
        *("dataset/dataset/cat/1.png", "dataset/dataset/dog/1.png"),
    ],
    "contains 1 folders.* directly contains 2 images: .*manifest": [
        *("train/cat/1.png", "train/1.png", "train/2.png"),
    ],
    "contains 0 folders.*Unpack train.zip first": ["train.zip"],
}


@pytest.mark.parametrize("message", REFUSED)
def test_ambiguous_folders_are_refused(message, tmp_path):
    fill(tmp_path, *REFUSED[message])
    path = tmp_path / "dataset" if "dataset/dataset" in message else tmp_path
    with pytest.raises(errors.BadInput, match=message):
        open_(path, "train")


def test_train_can_be_a_class(tmp_path):
    fill(tmp_path, "bus/1.png", "train/1.png", "plane/1.png")
    assert open_(tmp_path, "train").classes == ("bus", "plane", "train")
    classes_in(tmp_path / "split", "train", 2, ("test", "train", "val"))
    assert open_(tmp_path / "split", "train").classes == ("test", "train", "val")


def test_the_error_of_an_empty_split_has_the_sizes(tmp_path):
    classes_in(tmp_path, "train", 2)
    with pytest.raises(
        errors.BadInput, match=r"'train\[90%:\]' .* no images.* has train \(4\): use"
    ):
        open_(tmp_path, "train[90%:]")


def test_classes_next_to_splits_are_named_if_a_split_is_missing(tmp_path):
    """In a folder where only some of the images were moved into splits."""
    for name in ("cat", "dog", "test/cat", "test/dog"):
        (tmp_path / name).mkdir(parents=True)
        Image.new("RGB", (6, 5)).save(tmp_path / name / "0.png")
    with pytest.raises(errors.BadInput, match="cat/, dog/ in .* are not read.* into .*/train"):
        sources.open_source(f"folder:{tmp_path}", "train")


def test_the_summary_says_what_is_found_and_left_out(tmp_path):
    """All supported extensions are found, ignoring case; file managers' own files do not count."""
    files = ["a/1.jfif", "a/2.ppm", "a/3.png", "a/deep/er/4.png", "b/1.png", "b/2.png"]
    others = ["a/notes.txt", "b/x.heic", "b/y.HEIC", "b/noending"]
    junk = ["a/.hidden.png", "b/@eaDir/1.png", "__MACOSX/a/._1.png"]
    fill(tmp_path / "train", *files, *others, *junk, "stray.png")
    (tmp_path / "train/b/2.png").rename(tmp_path / "train/b/2.PNG")
    fill(tmp_path, "annotations/a/1.xml", "test/1.png", "valid/a/1.png")
    source = open_(tmp_path, "train")
    assert len(source) == 6
    line = sources.summary(source)
    assert "6 images, 2 to 4 in each of 2 classes: a, b; left out: 2 .heic, " in line
    assert "1 .txt" in line and "1 no ending" in line
    assert "1 images outside of class folders" in line
    # A folder of images without classes is not a split.
    assert source.beside == ("annotations", "test", "valid")


def test_the_class_order_is_reported_if_others_sort_differently(tmp_path):
    classes_in(tmp_path, "train", 1, ("1", "2", "10"))
    line = sources.summary(open_(tmp_path, "train"))
    assert "1, 10, 2 (sorted as text; config.input.class_names=FILE gives another order)" in line
    classes_in(tmp_path, "others", 1, ("b ²", "a, 1", "c"))
    line = sources.summary(open_(tmp_path / "others", "train"))
    assert line.endswith("classes: 'a, 1', b ², c")
    given = open_(tmp_path, "train", classes=("1", "2", "10"))
    assert sorted(given.files)[-1] == ("train/2/0.png", 1) and "sorted" not in sources.summary(
        given
    )


def test_a_models_classes_label_a_folder_with_some_of_them(tmp_path):
    classes = ("zebra", "dog", "ant", "cat")
    classes_in(tmp_path, "flat", 3, ("cat", "dog"))
    classes_in(tmp_path, "only/test", 2, ("dog",))
    for root, split in ((tmp_path / "flat", "train"), (tmp_path / "only", "test")):
        source = open_(root, split, classes=classes)
        assert source.classes == classes
        assert {classes[label] == file.split("/")[-2] for file, label in source.files} == {True}
    line = sources.summary(source)
    assert "1 of the 4 classes: zebra, dog, ant, cat (none of zebra, ant, cat)" in line
    classes_in(tmp_path, "only/test", 1, ("Cat",))
    expected = "1 folders that are none of the 4 expected .*'Cat'. Did you mean 'cat'"
    with pytest.raises(errors.BadInput, match=expected):
        open_(tmp_path / "only", "test", classes=classes)


def test_names_that_are_not_utf_8(tmp_path):
    """They are listed and read; ordinary names are sorted by the hash of their text."""
    classes_in(tmp_path, "train", 4)
    os.rename(tmp_path / "train/cat/0.png", os.fsencode(tmp_path / "train/cat") + b"/caf\xe9.png")
    source = open_(tmp_path, "train")
    assert len(source) == 8 and all(source[i]["image"] for i in range(8))
    assert any("caf" in source.where(i) for i in range(8))
    assert sources.fingerprint(source) != sources.fingerprint(open_(tmp_path, "train[:7]"))
    assert hash_key("é") == hash_key(b"\xc3\xa9".decode())
    assert hash_key("caf\udce9") != hash_key("café")


def test_a_class_may_be_written_by_a_mac(tmp_path):
    """A name can have two forms in Unicode: macOS's and that of other systems."""
    composed = "café"
    decomposed = unicodedata.normalize("NFD", composed)
    assert composed != decomposed
    classes_in(tmp_path, "train", 2, (composed, "dog"))
    classes_in(tmp_path, "test", 1, (decomposed, "dog"))
    test = open_(tmp_path, "test")
    assert test.classes == (composed, "dog") and {label for _, label in test.files} == {0, 1}
    classes_in(tmp_path, "test", 1, (composed,))
    with pytest.raises(errors.BadInput, match="contains two folders"):
        open_(tmp_path, "test")


def test_links_are_followed_but_not_in_cycles(tmp_path):
    classes_in(tmp_path, "elsewhere", 3)
    (tmp_path / "data" / "train").mkdir(parents=True)
    for name in ("cat", "dog"):
        (tmp_path / "data/train" / name).symlink_to(tmp_path / "elsewhere" / name)
    (tmp_path / "elsewhere/cat/up").symlink_to(tmp_path / "elsewhere")
    source = open_(tmp_path / "data", "train")
    np.testing.assert_array_equal(np.bincount([label for _, label in source.files]), [3, 3])


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_folder_is_named(tmp_path):
    classes_in(tmp_path, "train", 2)
    (tmp_path / "train/dog").chmod(0)
    try:
        with pytest.raises(errors.BadInput, match="train/dog cannot be read: Permission denied"):
            open_(tmp_path, "train")
    finally:
        (tmp_path / "train/dog").chmod(0o755)
