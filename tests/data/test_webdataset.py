"""`webdataset:PATH`: which members of a tar are an example, and its label; tars in a bucket."""

import json
import tarfile

import numpy as np
import pytest
from forms import as_webdataset, open_, png, tar_of

from mixer import batch as batch_lib
from mixer import errors, storage
from mixer.data import order, pipeline, sources, transforms
from mixer.data.sources import blocks
from mixer.prepare import readers
from mixer.storage import seekable


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
    index.write_bytes(index.read_bytes().replace(b'"class_id": [2]', b'"class_id": [1]'))
    cached = open_(place, image_key="jpg", label_key="class_id")
    assert cached.classes == ("0", "1")  # the tar was not read again
    tar_of(file, members | {"0.cls": b"1"})
    with pytest.raises(errors.BadInput, match="'0' are not next to each other"):
        open_(place, image_key="jpg", label_key="class_id")


def test_a_name_or_a_label_given_twice_is_refused(tmp_path, cache):
    one = {"0.JPG": b"", "0.cls": b"3\n", "0.json": b'{"cls": 3, "other": 1}'}
    two = {"1.jpg": b"", "1.cls": b"1", "1.json": b'{"cls": "dog"}', "1.x.json": b'{"cls": 5}'}
    place = f"webdataset:{tar_of(tmp_path / 'a.tar', one)}"
    assert open_(place).files == (("train/3/0.jpg", 3),)  # both files say the same
    tar_of(tmp_path / "a.tar", one | two)
    with pytest.raises(errors.BadInput, match="'1': several labels 'cls' in .*json: 1, dog, 5"):
        open_(place)
    tar_of(tmp_path / "a.tar", one)
    with tarfile.open(tmp_path / "a.tar", "a") as tar:  # another example with the same name
        tar.addfile(tarfile.TarInfo("0.jpg"))
    with pytest.raises(errors.BadInput, match="a.tar: two members '0.jpg'"):
        open_(place)
    tar_of(tmp_path / "a.tar", one, "w:gz")
    with pytest.raises(errors.BadInput, match="it is compressed: unpack it"):
        open_(place)


BUCKET = "webdataset:gs://bucket/set"


@pytest.fixture
def both(made, tmp_path, server, cache, monkeypatch):
    """The same tars in a folder and in a bucket, whose objects are read in small pieces."""
    monkeypatch.setattr(seekable, "_PIECE", 2048)
    server.root = tmp_path
    return as_webdataset(made, tmp_path / "set"), BUCKET


def test_tars_in_a_bucket_are_those_in_a_folder_and_listed_once(both, server, tmp_path, made):
    here, there = both
    assert sources.split_to_measure(there) == "test"
    for split in ("train", "test", "train[:30%]"):
        known, found = open_(here, split), open_(there, split)
        assert sources.fingerprint(found) == sources.fingerprint(known)
        assert [found[i] for i in range(5)] == [known[i] for i in range(5)]
    assert "gs://bucket/set/train/" in found.where(0)
    before = server.asked(".tar")
    again = open_(there)
    assert server.asked(".tar") == before  # only the listing of the bucket
    assert server.asked("listing set/") and again[7] == open_(here)[7]
    for part in ("/train/*.tar", "/train/0.tar", "/t*/0.tar"):
        assert len(open_(there + part)) == len(open_(here + part))
    changed = {"00000.png": png(made["train"][0][0]), "00000.cls": b"frog"}
    tar_of(tmp_path / "set/train/0.tar", changed)
    assert open_(there + "/train/0.tar").classes == ("frog",)


def test_training_reads_ahead_from_a_bucket_with_one_request_per_image(both, server):
    def rows(source):
        by = order.Full(len(source), seed=0)
        source, ahead = blocks.in_blocks(source, by, range(8))
        transform, padding = transforms.parse("resize", (32, 32)), batch_lib.padding((32, 32))
        return pipeline.Rows(source, transform, by, 0, 8, range(8), padding, ahead=ahead)

    here, there = map(rows, map(open_, both))
    assert here.ahead == 0 < there.ahead
    before = server.asked(".tar")
    found, known = (
        list(pipeline.batches(each, start=0, stop=5, threads=2, workers=0))
        for each in (there, here)
    )
    for one, other in zip(found, known, strict=True):
        np.testing.assert_array_equal(one["image"], other["image"])
        np.testing.assert_array_equal(one["label"], other["label"])
    there.source.close()
    # 40 images once each; what was announced for the next pass comes on top.
    assert 40 <= server.asked(".tar") - before <= 40 + there.ahead


def test_what_a_bucket_lacks_or_refuses_is_said(both, server, tmp_path):
    with pytest.raises(errors.Missing, match=r"gs://bucket/nothing is not a file or folder of"):
        open_("webdataset:gs://bucket/nothing")
    with pytest.raises(errors.BadInput, match="copy the files of the bucket here first"):
        readers.open_reader(BUCKET)
    with pytest.raises(errors.BadInput, match="expected a path on this machine"):
        open_("parquet:gs://bucket/a")
    file, source = tmp_path / "set/train/0.tar", open_(BUCKET)
    last = max(e for e in source.images[0].entries if e.file.endswith("/0.tar"))
    file.write_bytes(file.read_bytes()[: last.offset + 9])
    with pytest.raises(storage.StoreError, match=r"gs://bucket/set/train/0.tar: .*truncated"):
        [source[i] for i in range(40)]
    with pytest.raises(errors.BadInput, match="set/train/0.tar cannot be read as a tar"):
        open_(BUCKET)
    server.public = False
    with pytest.raises(errors.BadInput, match="status 401.*requirements-gcs.txt"):
        open_(BUCKET)
