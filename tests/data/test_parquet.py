"""`parquet:PATH`: which columns are read, and what is refused."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from forms import CLASSES, as_parquet, open_, table_of

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
