"""Names of TPU slices: Cloud TPU's own tables of topologies."""

import pytest

from mixer.errors import BadInput
from mixer.planning import slices


@pytest.mark.parametrize(
    ("name", "topology"),
    [
        ("v3-8", "v3:2x2"),
        ("v3-32", "v3:4x4"),
        ("v3-64", "v3:4x8"),
        ("v3-2048", "v3:32x32"),
        ("v4-8", "v4:2x2x1"),
        ("v4-16", "v4:2x2x2"),
        ("v4-32", "v4:2x2x4"),
        ("v4-64", "v4:2x4x4"),
        ("v4-512", "v4:4x8x8"),
        ("v5litepod-4", "v5e:2x2"),
        ("v5litepod-8", "v5e:2x4"),
        ("v5litepod-256", "v5e:16x16"),
        ("v5p-128", "v5p:4x4x4"),
        ("v6e-128", "v6e:8x16"),
        ("tpu7x-8", "tpu7x:2x2x1"),
        ("v5e:4x4", "v5e:4x4"),
    ],
)
def test_cloud_tpus_names(name, topology):
    assert slices.topology(name) == topology


def test_a_grid_of_chips_has_one_of_clouds_names():
    names = {"v3:4x4": "v3-32", "v4:2x2x4": "v4-32", "v5e:4x4": "v5e-16", "H100-8": "H100-8"}
    assert {name: slices.product_name(name) for name in names} == names
    for wrong in ("v9:4x4", "v3:", "v3:4", "v3:4x0"):
        with pytest.raises(BadInput, match="expected a slice"):
            slices.product_name(wrong)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("v3-33", "v3 counts TensorCores, two a chip"),
        ("v6e-48", "v6e counts chips, and the slices known here have 4, 8, 16"),
        ("v5litepod-1", "4, 8, 16"),
        ("v9-8", "expected a slice as Cloud TPU names it, such as v3-32"),
        ("v3", "expected a slice"),
        ("4x4", "expected a slice"),
    ],
)
def test_other_names_are_refused(name, message):
    with pytest.raises(BadInput, match=message):
        slices.topology(name)
