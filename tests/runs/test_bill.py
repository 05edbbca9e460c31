"""The hours and the cost of a recipe: the paper's numbers of steps and images."""

import math

import pytest

from configs import finetune, imagenet, jft
from mixer.runs.bill import Work, work_of


def test_the_papers_recipes_without_their_data(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    work = work_of(jft.get_config("Mixer-B/16", "plan"))
    assert work.steps == 517_735 and work.unknown == ()  # 7 epochs without what is held out
    # Two splits of 25,600 images, every 10,000 steps and at the end.
    assert work.evaluated == 52 * 2 * 25_600
    work = work_of(imagenet.get_config("Mixer-B/16", "plan"))
    # minival, validation, a part of train; ReaL's labels are of the validation images.
    each = 12_812 + 50_000 + 25_623
    assert work.steps == 92_897 and work.evaluated == math.ceil(92_897 / 3_097) * each
    assert work.unknown == ("real",)
    half = imagenet.get_config("Mixer-B/16", "plan")
    half.input.fraction = 0.5
    assert work_of(half).steps == 92_897  # an epoch counts the whole split
    tuned = work_of(finetune.get_config("cifar10,Mixer-B/16,224", "plan"))
    assert tuned.steps == 10_000 and tuned.unknown == ("test",)
    unknown = imagenet.get_config("Mixer-B/16", "plan")
    unknown.dataset = "elsewhere"
    assert work_of(unknown) is None


def test_the_bill_is_arithmetic():
    bill = Work(steps=36_000, batch_size=100, evaluated=300 * 3_600, unknown=()).bill(0.5, 8, 2.0)
    # 36,000 steps of 0.5 s, and as many images as 3,600 steps train on, at a third of the time.
    assert bill.hours == pytest.approx(5 + 0.5)
    assert bill.evaluating == pytest.approx(0.5 / 5.5)
    assert bill.device_days == pytest.approx(5.5 * 8 / 24) and bill.cost == pytest.approx(88)
    assert Work(10, 10, 0, ()).bill(1.0, 1, 0.0).cost is None
