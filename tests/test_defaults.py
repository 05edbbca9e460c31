"""The table of defaults: each kind of device has a row, and few images a device shard."""

import math

import pytest

import mixer
from mixer import defaults
from mixer.defaults import DEFAULTS, default


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


def test_a_model_by_name_takes_the_default_of_the_devices(monkeypatch):
    assert mixer.create_model("Mixer-S/16", num_classes=2, dtype="auto").dtype == "float32"
    row = defaults.Default("cpu", math.inf, "bfloat16", 1, "a test")
    monkeypatch.setattr(defaults, "DEFAULTS", (row,))
    assert mixer.create_model("Mixer-S/16", num_classes=2, dtype="auto").dtype == "bfloat16"
