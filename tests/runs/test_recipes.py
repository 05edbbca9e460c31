"""The recipes against table 4 of the paper and the numbers that follow from it."""

import json

import pytest
from PIL import Image
from runs_command import run

from configs import imagenet
from mixer.data import transforms
from mixer.runs import build
from mixer.training import durations

# Table 4: epochs, lr, weight decay, RandAugment m, mixup p, dropout, stochastic depth.
TABLE_4 = {"Mixer-B/16": (300, 0.001, 0.1, 15, 0.5, 0.0, 0.1)}
TABLE_4["Mixer-L/16"] = TABLE_4["Mixer-B/16"]


@pytest.mark.parametrize("model", TABLE_4)
def test_imagenet_is_table_4s_row(model):
    config = imagenet.get_config(model)
    epochs, rate, decay, m, p, dropout, depth = TABLE_4[model]
    assert config.total == f"{epochs} epochs"
    assert config.schedule.base == rate and config.optimizer.weight_decay == decay
    assert config.mixup == p
    assert config.model.dropout == dropout and config.model.stochastic_depth == depth
    chain = transforms.parse(config.input.transform, config.image_size).transforms
    names = [type(transform).__name__ for transform in chain]
    assert names == ["InceptionCrop", "FlipLeftRight", "RandAugment"]
    assert chain[2].layers == 2 and chain[2].magnitude == m and chain[2].quirks
    # Section 3 and appendix B.
    assert config.batch_size == 4096 and config.image_size == (224, 224)
    assert config.schedule.warmup == "10_000 steps" and config.schedule.decay == "linear"
    assert config.optimizer.clip_norm == 1 and config.loss == "sigmoid_xent"
    # 99 % of the training set: 92,897 steps.
    held_in = 1_281_167 - 12_812
    assert durations.to_steps(config.total, config.batch_size, held_in, "total") == 92_897
    assert config.evaluators.val.transform == "resize_small(256)|central_crop"


def test_the_head_starts_at_the_classes_share(data_dir):
    training = build.training(imagenet.get_config("smoke"))
    params = training.init(None).params
    assert (params["head"]["bias"] == pytest.approx(-6.9)) and not params["head"]["kernel"].any()


@pytest.mark.slow
def test_contact_sheet_shows_what_the_recipe_makes(data_dir, tmp_path):
    sheet = ("--config.run=contact_sheet", "--config.sheet=10")
    code, _, err = run(data_dir, "configs/imagenet.py:64", tmp_path / "out", *sheet)
    assert code == 0, err
    picture = Image.open(tmp_path / "out" / "contact_sheet.png")
    assert picture.size == (4 * (64 + 4), 3 * (64 + 4 + 12))
    assert len(picture.getcolors(100_000)) > 500
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["run"] == "contact_sheet" and results["dataset"] == "imagenet2012"
    code, _, err = run(
        data_dir, "configs/imagenet.py:64", tmp_path / "bad", *sheet[:1], "--config.sheet=0"
    )
    assert code == 2 and "config.sheet=0: expected 1 or more" in err
