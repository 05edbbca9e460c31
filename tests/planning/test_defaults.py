"""The table of defaults: each kind of device has a row, and few images a device shard."""

import math

import pytest

from mixer.planning.defaults import DEFAULTS, default


@pytest.mark.parametrize(
    ("platform", "images", "dtype", "fsdp"),
    [
        ("tpu", 8, "bfloat16", 8),
        ("tpu", 64, "bfloat16", 8),
        ("tpu", 65, "bfloat16", 1),
        ("gpu", 1, "bfloat16", 1),
        ("cpu", 1, "float32", 1),
        ("another", 1, "float32", 1),
    ],
)
def test_the_row_of_a_device(platform, images, dtype, fsdp):
    row = default(platform, images)
    assert (row.dtype, row.fsdp) == (dtype, fsdp) and row.reason


def test_every_platform_has_a_row_for_any_number_of_images():
    for platform in {row.platform for row in DEFAULTS}:
        assert default(platform, math.inf).most_images == math.inf
