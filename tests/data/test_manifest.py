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
        ("a.csv", "path,label\na.png,\n", "line 2: it has no label: leave the row out"),
        ("a.csv", "path,label\nimg\\a.png,x\n", "line 2: path .*: write it as 'img/a.png'"),
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


@pytest.mark.parametrize(
    "value, message",
    [
        ("", "it has no number: leave the row out"),
        ("NaN", "it has no number: leave the row out"),
        ("True", "write true as 1"),
        ("inf", "expected a number"),
        ("mild", "a column of classes is called label"),
    ],
)
def test_a_cell_without_a_number_is_named_with_its_line(value, message, tmp_path):
    place = manifest(tmp_path, f"path,age,risk\na.png,1,0\nb.png,2,{value}\n")
    with pytest.raises(errors.BadInput, match=f"line 3: risk '{value}': .*{message}"):
        open_(place, label_key="age,risk")


def test_a_file_with_a_backslash_in_its_name_is_a_file(tmp_path):
    (tmp_path / "img\\a.png").touch()
    place = manifest(tmp_path, "path,label\nimg\\a.png,x\nb.png,y\n")
    assert sorted(open_(place).files) == [("b.png", 1), ("img\\a.png", 0)]


def test_a_table_in_another_encoding_says_from_where(tmp_path):
    (tmp_path / "a.csv").write_bytes("path;label\na.png;mild\nb.png;mäßig\n".encode("latin-1"))
    with pytest.raises(errors.BadInput, match=r"not UTF-8, from b'\\xe4\\xdfig' on: .* LATIN1"):
        open_(f"manifest:{tmp_path}/a.csv")


@pytest.mark.parametrize(
    "name, message",
    [("a.csv", "no file .*a.csv"), ("a.xlsx", "save a sheet of a workbook as CSV UTF-8")],
)
def test_a_file_that_is_not_there_is_told_from_one_of_another_kind(name, message, tmp_path):
    with pytest.raises(errors.BadInput, match=message):
        open_(f"manifest:{tmp_path}/{name}")


NUMBERED = "path,label\n" + "".join(f"{label}.png,{label}\n" for label in range(1, 5))


@pytest.mark.parametrize(
    "classes", [("1.0", "2.0", "3.0", "4.0", "5.0"), ("4", "3", "2", "1", "0")]
)
def test_integers_that_could_be_names_or_numbers_of_classes_are_refused(classes, tmp_path):
    with pytest.raises(errors.BadInput, match="label 1 may mean the class called 1.* or class num"):
        open_(manifest(tmp_path, NUMBERED), classes=classes)


@pytest.mark.parametrize("classes", [("0.0", "1.0", "2.0", "3.0", "4.0"), tuple("abcde")])
def test_integers_that_mean_one_class_are_its_number(classes, tmp_path):
    files = open_(manifest(tmp_path, NUMBERED), classes=classes).files
    assert sorted(files) == [(f"{label}.png", label) for label in range(1, 5)]


def test_integers_that_are_the_names_of_all_classes_are_names(tmp_path):
    rows = "".join(f"{label}.png,{label}\n" for label in range(12))
    classes = tuple(sorted(map(str, range(12))))  # as of a folder: 0, 1, 10, 11, 2, ...
    files = open_(manifest(tmp_path, "path,label\n" + rows), classes=classes).files
    assert all(classes[label] == name.removesuffix(".png") for name, label in files)
