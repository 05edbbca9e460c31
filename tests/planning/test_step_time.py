"""The estimate of a step's time, held against the costs that the paper prints (tables 2 and 3)."""

import statistics

import pytest

from mixer.paper import published, rows
from mixer.planning import peaks, step_time

# Per core, of the paper's step in float32: batches of 4,096 on a v3-128, by the TPU compiler.
# FLOPs, and bytes by `planning.traffic`.
STEPS = {
    "Mixer-S/32": (187_533_361_152, 3_327_277_047),
    "Mixer-S/16": (720_243_523_584, 6_954_311_607),
    "Mixer-B/32": (614_243_893_248, 9_236_662_495),
    "Mixer-B/16": (2_412_140_691_456, 17_422_402_879),
    "Mixer-L/32": (2_150_767_263_744, 29_529_540_495),
    "Mixer-L/16": (8_543_289_212_928, 51_433_079_247),
    "Mixer-H/14": (24_506_221_854_720, 119_191_677_107),
}
CORES = 128


def ratios(names):
    """The paper's core-days divided by the estimate of the training steps, a number a row."""
    core, _ = peaks.by_product_name("v3-128")
    found = {}
    for row in published.table("table3"):
        model, data, epochs = row["model"], row["pretrained_on"], row["pretraining_epochs"]
        if model not in names or row["image_size"] != 224:
            continue
        images = rows.IMAGES[data]
        steps = epochs * images / 4096
        days = steps * step_time.seconds(*STEPS[model], core) * CORES / 86400
        found[model, data, epochs] = 1000 * row["cost"] / days
    return found


def test_the_larger_mixers_took_about_what_is_estimated():
    found = ratios(("Mixer-B/16", "Mixer-L/16", "Mixer-H/14"))
    assert len(found) == 8, found
    assert min(found.values()) > 0.9 and max(found.values()) < 1.35
    assert statistics.median(found.values()) == pytest.approx(1.15, abs=0.05)


def test_the_smaller_took_up_to_twice_that():
    found = ratios(("Mixer-S/32", "Mixer-S/16", "Mixer-B/32", "Mixer-L/32"))
    assert len(found) == 4 and all(1.5 < value < 2.2 for value in found.values()), found
