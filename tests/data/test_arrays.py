"""`arrays:PATH`: which arrays are read, and what is refused."""

import numpy as np
import pytest
from forms import open_

from mixer import errors


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"images": np.zeros((2, 4, 4), np.float32), "labels": [0, 1]}, "images is float32"),
        ({"images": np.zeros((2, 4, 4), np.uint8), "labels": [0.0j, 1]}, "labels is complex128"),
        ({"images": np.zeros((2, 4, 4), np.uint8), "labels": [0, 1, 1]}, r"labels is int64 \[3\]"),
        ({"x_train": np.zeros((2, 4, 4), np.uint8)}, "none for the labels of train"),
        ({"a": [1], "b": [2]}, "It has a, b;"),
        (
            {f"x_{s}": np.zeros((2, 4, 4), np.uint8) for s in ("train", "test")}
            | {"y_train": [0.5, 1.0], "y_test": [12, 34]},
            "y_train is float64 and y_test is int64: expected integers.* or floats",
        ),
        (
            {"x": np.zeros((3, 4, 4), np.uint8), "y": [0, 1, 2], "classes": ["ox", "cat", "ox"]},
            "several classes or numbers called ox",
        ),
    ],
)
def test_arrays_of_other_types_are_refused(arrays, message, tmp_path):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(errors.BadInput, match=message):
        open_(f"arrays:{tmp_path / 'a.npz'}")


def test_arrays_that_are_not_read_are_named(tmp_path):
    """A split without images has no labels either, and is none."""
    some, none = np.zeros((3, 4, 4), np.uint8), np.zeros((0, 4, 4), np.uint8)
    numbers = {"y_train": [0.5, 1.0, 2.0], "y_test": np.zeros(0)}
    np.savez(tmp_path / "a.npz", x_train=some, x_test=none, x_train_2=some, **numbers)
    source = open_(f"arrays:{tmp_path / 'a.npz'}")
    assert len(source) == 3 and source.summary().endswith("; not read: array 'x_train_2'")
