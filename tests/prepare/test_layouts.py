"""Common names of splits, classes and columns in other people's data."""

import json
import os
import shutil

import pytest
import tensorflow_datasets as tfds
from PIL import Image

from mixer import errors
from mixer.data import sources
from mixer.prepare import dataset

PNG = b"\x89PNG\r\n\x1a\n and so on"


def splits_of(folder):
    return {name: split["examples"] for name, split in dataset.summary(folder)["splits"].items()}


def refused(job, source, message):
    with pytest.raises(errors.BadInput, match=message):
        dataset.prepare(job(source), accept=lambda: None, stop=lambda: False)
    assert not job(source).target.exists()


@pytest.mark.parametrize("kind", ["folder", "tar"])
def test_splits_get_tfds_names(kind, image_folder, images, tar, prepare, read):
    spelled = {"train": "Training", "test": "valid"}
    if kind == "folder":
        for name, other in spelled.items():
            (image_folder / name).rename(image_folder / other)
        source = f"folder:{image_folder}"
    else:
        parted = {tuple(name.split("/", 1)): image for name, image in images.items()}
        renamed = {f"x/{spelled[split]}/{rest}": data for (split, rest), data in parted.items()}
        source = f"tar:{tar('a.tar', renamed)}"
    folder = prepare(source)
    assert splits_of(folder) == {"train": 35, "validation": 12}
    assert len(read(folder, "val")) == len(read(folder, "Valid")) == 12


def test_the_interpretation_of_the_source_is_printed(image_folder, prepare, capsys):
    (image_folder / "train" / "cat" / "notes.txt").write_text("x")
    (image_folder / "annotations").mkdir()
    prepare(f"folder:{image_folder}")
    assert (
        f"folder:{image_folder}: 12 images in test, 35 images in train; 3 classes: cat, dog, eel; "
        f"left out: 1 .txt; not read: annotations" in capsys.readouterr().out
    )


TARS = {
    "Train/ and training/ both mean the split train": ("Train/a/1.png", "training/b/2.png"),
    "test, train look like splits but are not": ("train/1.png", "test/2.png"),
    "member 'cat/train/1.png' has no class": ("cat/train/1.png", "dog/train/2.png"),
}


@pytest.mark.parametrize("message", TARS)
def test_ambiguous_tars_are_refused(message, job, tar):
    refused(job, f"tar:{tar('a.tar', dict.fromkeys(TARS[message], PNG))}", message)


def test_members_of_tars_of_different_splits_must_name_them(job, tar):
    first = tar("train.tar", {"cat/1.png": PNG, "dog/2.png": PNG})
    second = tar("val.tar", {"cat/3.png": PNG, "dog/4.png": PNG})
    refused(job, f"tar:{first},{second}", "train.tar and .*val.tar look like splits")


def test_a_class_called_train_is_a_class_in_a_tar_too(prepare, tar):
    folder = prepare(f"tar:{tar('a.tar', {'bus/1.png': PNG, 'train/2.png': PNG})}")
    assert splits_of(folder) == {"train": 2}
    builder = tfds.builder_from_directory(folder)
    assert builder.info.features["label"].names == ["bus", "train"]


def test_names_that_are_not_utf_8(image_folder, prepare, job):
    cat = os.fsencode(image_folder / "train" / "cat")
    os.rename(cat + b"/0.png", cat + b"/caf\xe9.png")
    folder = prepare(f"folder:{image_folder}")
    source = sources.open_source("mine", "train", folder.parents[1])
    places = [source.where(i) for i in range(len(source))]
    assert sum("caf\udce9.png" in place for place in places) == 1
    shutil.rmtree(image_folder / "test")
    os.rename(cat, cat[:-3] + b"c\xe9t")
    refused(lambda s: job(s, "other"), f"folder:{image_folder}", "class .* is not UTF-8: rename it")


def test_netpbm_is_an_image(tmp_path, prepare, read):
    for i, name in enumerate(("cat", "dog")):
        (tmp_path / "in" / name).mkdir(parents=True)
        Image.new("L", (4, 4), i).save(tmp_path / "in" / name / "1.pgm")
        Image.new("RGB", (4, 4)).save(tmp_path / "in" / name / "2.jpe", "JPEG")
    assert len(read(prepare(f"folder:{tmp_path / 'in'}"), "train")) == 4


@pytest.mark.parametrize("ending", ["csv", "TSV"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_columns_may_have_other_separators(ending, separator, image_folder, images, prepare, job):
    """Also with Excel's byte order mark and Windows line ends."""
    rows = [["split", "label", "path", "width"]]
    rows += [[*name.split("/")[:2], name, "24"] for name in images]
    manifest = image_folder / f"list.{ending}"
    text = "".join(separator.join(row) + "\r\n" for row in rows)
    manifest.write_bytes(b"\xef\xbb\xbf" + text.encode())
    if ending == "TSV" and separator != "\t":
        refused(job, f"manifest:{manifest}", "split at tabs")
    else:
        assert splits_of(prepare(f"manifest:{manifest}")) == {"train": 35, "test": 12}


MANIFESTS = {
    "split at commas, is 'file_name, Class': no 'path' .rename 'file_name'. and expected "
    "either 'label' or 'labels' .rename 'Class'. among": "file_name,Class\na.png,x\n",
    "split at semicolons, is 'image, category': no": "image;category\na.png;x\n",
    "its first line, split at": "one column\na.png\n",
    "line 3: 3 columns, but the header has 2: put values": "path,label\na.png,x\na,b.png,y\n",
    "line 2: expected either 'label' or 'labels'": "path,size\na.png,3\n",
    "2 different integer labels from 0 to 100000: .* there would be 100,001": (
        "path,label\na.png,0\nb.png,100000\n"
    ),
    "Train and train both mean the split train": "path,label,split\na.png,x,Train\nb.png,y,train\n",
}


@pytest.mark.parametrize("message", MANIFESTS)
def test_errors_of_a_table_say_what_was_found(message, job, tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(PNG)
    (tmp_path / "list.csv").write_text(MANIFESTS[message])
    refused(job, f"manifest:{tmp_path / 'list.csv'}", message)


def test_unread_columns_are_printed(tmp_path, prepare, capsys):
    (tmp_path / "a.png").write_bytes(PNG)
    rows = ({"path": "a.png", "label": "x", "set": "test"},)
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(row) + "\n\n" for row in rows))
    prepare(f"manifest:{tmp_path / 'list.jsonl'}")
    assert "1 classes: x; not read: column 'set'" in capsys.readouterr().out


def test_names_of_tars_may_look_like_lists_and_globs(tmp_path, prepare, tar):
    for number, name in enumerate(("a,b.tar", "c[1].tar")):
        path = tar(name, {"cat/1.png": PNG, "dog/2.png": PNG})
        assert splits_of(prepare(f"tar:{path}", f"mine{number}")) == {"train": 2}
