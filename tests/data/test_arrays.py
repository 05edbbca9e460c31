"""`arrays:PATH`: arrays of other types are refused."""

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
    ],
)
def test_arrays_of_other_types_are_refused(arrays, message, tmp_path):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(errors.BadInput, match=message):
        open_(f"arrays:{tmp_path / 'a.npz'}")
