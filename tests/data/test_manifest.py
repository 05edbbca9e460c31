"""`manifest:FILE`: how its rows are read in place, and what is refused."""

import pytest
from forms import open_

from mixer import errors
from mixer.data import sources


def manifest(place, text, name="list.csv"):
    (place / name).write_text(text)
    return f"manifest:{place / name}"


def test_spaces_around_values_have_no_meaning(tmp_path):
    place = manifest(tmp_path, "path , label, split\na b%20.png , x, Train\nc.png, x , test\n")
    assert sources.split_to_measure(place) == "test"  # and not a part of train
    assert open_(place).files == (("a b%20.png", 0),)
    assert open_(place, "test").files == (("c.png", 0),)


JSON = '{"path": "a.png", "label": "x"%s}\n'


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("a.csv", "path,label\na.png,x\n./a.png,y\n", "several rows of train for 'a.png'"),
        ("a.csv", "path,label,label\na.png,x,y\n", "has several columns 'label'"),
        ("a.csv", "path,label\n", "a.csv contains no images"),
        (
            "a.csv",
            "path,label\ngs://b/a.png,x\n",
            "line 2: path 'gs://b/a.png': expected a file",
        ),
        ("a.jsonl", JSON % ', "split": 0', "line 1: split 0: expected text"),
        ("a.jsonl", JSON.replace('"x"', "null") % "", "line 1: it has no label"),
    ],
)
def test_rows_that_could_be_misunderstood_are_refused(name, text, message, tmp_path):
    place = manifest(tmp_path, text, name)
    with pytest.raises(errors.BadInput, match=message):
        open_(place)


def test_a_split_that_is_not_text_is_refused_when_splits_are_chosen(tmp_path):
    place = manifest(tmp_path, JSON % "" + JSON % ', "split": 1', "a.jsonl")
    with pytest.raises(errors.BadInput, match="line 2: split 1: expected text"):
        sources.split_to_train_on(place)
