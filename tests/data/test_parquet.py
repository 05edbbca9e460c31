"""`parquet:PATH`: which columns are read, and what is refused."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from forms import CLASSES, as_parquet, open_, png, table_of

from mixer import errors
from mixer.data import sources


def test_columns_are_chosen_by_metadata_then_by_name_then_by_the_user(tmp_path):
    pixels, labels = np.zeros((4, 8, 8, 3), np.uint8), np.array([0, 1, 2, 1])
    coarse = pa.array([5, 6, 5, 6])
    file = tmp_path / "train.parquet"
    place = f"parquet:{file}"
    pq.write_table(table_of(pixels, labels, hub=False, coarse=coarse), file)
    numbers = open_(place)
    assert numbers.classes == ("0", "1", "2") and "labels are their numbers" in numbers.summary()
    assert open_(place, classes=CLASSES).classes == CLASSES
    assert open_(place, label_key="coarse").classes == tuple("0123456")
    assert open_(place, num_classes=9).classes == tuple("012345678")
    with pytest.raises(errors.BadInput, match="largest label is 2, but there are 2 classes"):
        open_(place, num_classes=2)
    with pytest.raises(errors.BadInput, match=r"'lable' in|'lable'.*'label'"):
        open_(place, label_key="lable")
    with pytest.raises(errors.BadInput, match=r"label is struct|image is struct.*not a label"):
        open_(place, label_key="image")
    table = table_of(pixels, labels, hub=False).rename_columns(["photo", "fine"])
    pq.write_table(table, file)
    with pytest.raises(errors.BadInput, match=r"train.parquet: which column is the label.*photo"):
        open_(place)
    assert len(open_(place, label_key="fine")) == 4


def test_parquet_with_paths_texts_lists_and_missing_values(image_folder, tmp_path):
    files = sorted(str(p.relative_to(image_folder)) for p in image_folder.rglob("train/*/*.png"))
    texts = pa.array([name.split("/")[1] for name in files])
    pq.write_table(pa.table({"path": files, "label": texts}), image_folder / "train.parquet")
    place = f"parquet:{image_folder / 'train.parquet'}"
    known = sources.open_source(f"folder:{image_folder}", "train")
    assert [open_(place)[i] for i in range(len(files))] == [known[i] for i in range(len(files))]

    several = pa.array([["cat", "dog"]] + [["cat"]] * (len(files) - 1))
    pq.write_table(pa.table({"path": files, "label": several}), image_folder / "train.parquet")
    both = open_(place)
    found = sorted(both[i]["label"] for i in range(len(both)))
    assert both.max_labels == 2 and found == [(0,)] * (len(files) - 1) + [(0, 1)]

    holes = pa.array([None, *texts.to_pylist()[1:]])
    pq.write_table(pa.table({"path": files, "label": holes}), image_folder / "train.parquet")
    with pytest.raises(errors.BadInput, match=r"train.parquet, column path, row 0 .*has no label"):
        open_(place)


def test_the_same_table_twice_and_damaged_tables_are_refused(made, tmp_path):
    as_parquet(made, tmp_path / "one")
    as_parquet(made, tmp_path / "two")
    with pytest.raises(errors.BadInput, match=r"several data sets\? Name one of the folders"):
        open_(f"parquet:{tmp_path}")
    file = tmp_path / "one/data/test-00000-of-00002.parquet"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(errors.BadInput, match=r"test-00000-of-00002.parquet cannot be read"):
        open_(f"parquet:{tmp_path / 'one'}")
    with pytest.raises(errors.Missing, match="is not a file or folder"):
        open_(f"parquet:{tmp_path / 'three'}")


PNG = [png(np.full((8, 8, 3), i, np.uint8)) for i in range(3)]
FLOATS = pa.list_(pa.float32())


def made_of(labels):
    return np.zeros((len(labels), 8, 8, 3), np.uint8), np.array(labels)


@pytest.mark.parametrize(
    "images, labels",
    [
        (pa.large_binary(), pa.large_string()),
        (pa.binary_view(), pa.string_view()),
        (pa.binary(), pa.dictionary(pa.int8(), pa.string())),
    ],
)
def test_columns_of_one_meaning_may_be_stored_in_several_ways(images, labels, tmp_path):
    """In other files than those of the other splits, too."""
    texts = ["b", "a", "b"]
    pq.write_table(pa.table({"image": PNG, "label": texts}), tmp_path / "test.parquet")
    known = open_(f"parquet:{tmp_path}", "test")
    fields = [pa.field("image", images, nullable=False), pa.field("label", labels, nullable=False)]
    columns = [pa.array(PNG).cast(images), pa.array(texts).cast(labels)]
    pq.write_table(pa.table(columns, schema=pa.schema(fields)), tmp_path / "train.parquet")
    found = open_(f"parquet:{tmp_path}")
    assert found.classes == known.classes == ("a", "b")
    for source in (found, known):  # a split has an order of its own
        images = {source[i]["image"]: source[i]["label"] for i in range(3)}
        assert images == dict(zip(PNG, (1, 0, 1), strict=True))


def test_the_vectors_of_one_split_say_how_many_numbers_there_are(tmp_path):
    """The test split has no labels and comes first; a list may be empty."""
    none = pa.array([None] * 3, FLOATS)
    pq.write_table(pa.table({"image": PNG, "label": none}), tmp_path / "test.parquet")
    rows = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
    file = tmp_path / "train.parquet"
    pq.write_table(pa.table({"image": PNG, "label": pa.array(rows, FLOATS)}), file)
    assert open_(f"parquet:{tmp_path}").classes == ("0", "1")
    pq.write_table(pa.table({"image": PNG, "label": pa.array([[], *rows[1:]], FLOATS)}), file)
    with pytest.raises(errors.BadInput, match=r"row 0 .*label is \(\): expected 2 numbers"):
        open_(f"parquet:{tmp_path}")


def test_one_file_may_tell_what_another_does_not(tmp_path):
    """A split without labels, whose column has no type, comes first; one has lost its metadata."""
    table = table_of(*made_of((0, 1, 2)))
    for name, changed in (
        ("test", table.set_column(1, "label", pa.nulls(3))),
        ("train", table),
        ("val", table.replace_schema_metadata(None)),
    ):
        pq.write_table(changed, tmp_path / f"{name}.parquet")
    for split in ("train", "validation"):
        source = open_(f"parquet:{tmp_path}", split)
        assert source.classes == CLASSES and sorted(source.every_label()) == [0, 1, 2]
    with pytest.raises(errors.BadInput, match="has no label: use another split than test"):
        open_(f"parquet:{tmp_path}", "test")
    metadata = table.schema.metadata[b"huggingface"].replace(b"bird", b"fish")
    other = table.replace_schema_metadata({b"huggingface": metadata})
    pq.write_table(other, tmp_path / "val.parquet")
    message = (
        "val.parquet names the classes airplane, fish, cat, but .*train.parquet airplane, bird"
    )
    with pytest.raises(errors.BadInput, match=message):
        open_(f"parquet:{tmp_path}")


@pytest.mark.parametrize(
    "labels, message",
    [
        ([[1, None], [0], [2]], "row 0 of the split: one of its 2 labels is missing"),
        (["", "a", "b"], "row 0 of the split has no label"),
    ],
)
def test_a_part_of_a_label_that_is_missing_is_refused(labels, message, tmp_path):
    pq.write_table(pa.table({"image": PNG, "label": labels}), tmp_path / "train.parquet")
    with pytest.raises(errors.BadInput, match=message):
        open_(f"parquet:{tmp_path}")


def test_a_name_of_two_columns_is_refused(tmp_path):
    table = pa.table([PNG, [0, 1, 2], [2, 1, 0]], names=["image", "label", "label"])
    pq.write_table(table, tmp_path / "train.parquet")
    with pytest.raises(errors.BadInput, match="has several columns 'label'"):
        open_(f"parquet:{tmp_path}")


def test_an_image_that_is_missing_is_told_when_it_is_read(tmp_path):
    """The first one, too; and only the images count for the size of a row group."""
    columns = {"image": [None, *PNG[1:]], "label": [0, 1, 2], "text": ["x" * 10**5] * 3}
    pq.write_table(pa.table(columns), tmp_path / "train.parquet")
    source = open_(f"parquet:{tmp_path}")
    assert source.summary().endswith("; not read: column 'text'")
    assert sum(map(len, PNG[1:])) < source.images[0].largest < 1000
    bad = next(i for i in range(3) if "row 0 " in source.where(i))
    assert {source[i]["image"] for i in range(3) if i != bad} == {*PNG[1:]}
    with pytest.raises(ValueError, match="its column image is empty"):
        source[bad]
