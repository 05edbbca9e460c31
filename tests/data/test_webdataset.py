"""`webdataset:PATH`: which members of a tar are an example, and its label."""

import json

import pytest
from forms import open_, png, tar_of

from mixer import errors


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
