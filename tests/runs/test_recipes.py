"""The recipes against table 4 of the paper and the numbers that follow from it."""

import importlib
import json

import numpy as np
import pytest
from PIL import Image
from runs_command import run

from mixer.data import transforms
from mixer.data.sources.splits import absolute_ranges
from mixer.runs.training import build_training
from mixer.training import durations

pytestmark = pytest.mark.usefixtures("one_device")

# Table 4, with the steps that follow from the number of training images.
# recipe, model: epochs, lr, weight decay, RandAugment m, mixup p, stochastic depth, images, steps
I1K, I21K, JFT = 1_281_167 - 12_812, 14_197_122 - 51_200, 303_000_000
TABLE_4 = {
    ("imagenet", "Mixer-B/16"): (300, 0.001, 0.1, 15, 0.5, 0.1, I1K, 92_897),
    ("imagenet", "Mixer-L/16"): (300, 0.001, 0.1, 15, 0.5, 0.1, I1K, 92_897),
    ("imagenet21k", "Mixer-B/16"): (300, 0.001, 0.1, 10, 0.2, 0.1, I21K, 1_036_078),
    ("imagenet21k", "Mixer-L/16"): (300, 0.001, 0.1, 20, 0.5, 0.1, I21K, 1_036_078),
    ("jft", "Mixer-S/32"): (5, 0.003, 0.03, None, 0, 0, JFT, 369_873),
    ("jft", "Mixer-S/16"): (5, 0.003, 0.03, None, 0, 0, JFT, 369_873),
    ("jft", "Mixer-B/32"): (7, 0.003, 0.03, None, 0, 0, JFT, 517_822),
    ("jft", "Mixer-B/16"): (7, 0.003, 0.03, None, 0, 0, JFT, 517_822),
    ("jft", "Mixer-L/32"): (7, 0.001, 0.03, None, 0, 0, JFT, 517_822),
    ("jft", "Mixer-L/16"): (7, 0.001, 0.03, None, 0, 0, JFT, 517_822),
    ("jft", "Mixer-H/14"): (14, 0.001, 0.03, None, 0, 0, JFT, 1_035_645),
}
HEAD_BIAS = {"imagenet": -6.9, "imagenet21k": -10, "jft": -10}


def recipe(name, words=""):
    return importlib.import_module(f"configs.{name}").get_config(words)


@pytest.mark.parametrize("name, model", TABLE_4)
def test_pretraining_is_table_4s_row(name, model):
    config = recipe(name, model)
    epochs, rate, decay, m, p, depth, images, steps = TABLE_4[name, model]
    assert config.dataset == {"imagenet": "imagenet2012"}.get(name, name)
    assert config.total == f"{epochs} epochs"
    assert config.schedule.base == rate and config.optimizer.weight_decay == decay
    assert config.mixup == p
    assert config.model.dropout == 0 and config.model.stochastic_depth == depth
    chain = transforms.parse(config.input.transform, config.image_size).transforms
    names = [type(transform).__name__ for transform in chain]
    assert names == ["InceptionCrop", "FlipLeftRight", "RandAugment"][: 2 if m is None else 3]
    if m is not None:
        assert chain[2].layers == 2 and chain[2].magnitude == m and chain[2].quirks
    # Section 3 and appendix B; the head's bias is big_vision's.
    assert config.batch_size == 4096 and config.image_size == (224, 224)
    assert config.schedule.warmup == "10_000 steps" and config.schedule.decay == "linear"
    assert config.schedule.end == 1e-5 and config.optimizer.name == "adam(b1=0.9, b2=0.999)"
    assert config.optimizer.clip_norm == 1 and config.loss == "sigmoid_xent"
    assert config.label_smoothing == 0 and config.model.head_bias_init == HEAD_BIAS[name]
    assert durations.to_steps(config.total, config.batch_size, images, "total") == steps
    assert config.evaluators.val.transform == "resize_small(256)|central_crop"


# Table 3's epochs; rates and weight decay of table 3 in ViT's paper (neither has R200x3).
JFT_OTHERS = {
    "ViT-B/32": (7, 0.0008),
    "ViT-L/32": (7, 0.0006),
    "ViT-L/16": (14, 0.0004),
    "ViT-H/14": (14, 0.0003),
    "BiT-R50x1": (7, 0.001),
    "BiT-R50x2": (7, 0.001),
    "BiT-R101x1": (7, 0.0008),
    "BiT-R152x1": (7, 0.0006),
    "BiT-R152x2": (14, 0.0006),
    "BiT-R200x3": (14, 0.0006),
}


@pytest.mark.parametrize("model", JFT_OTHERS)
def test_the_papers_other_models_on_jft(model):
    config = recipe("jft", model)
    epochs, rate = JFT_OTHERS[model]
    assert config.total == f"{epochs} epochs" and config.schedule.base == rate
    assert config.optimizer.weight_decay == 0.1
    assert config.optimizer.name == "adam(b1=0.9, b2=0.999)" and config.batch_size == 4096


@pytest.mark.long
@pytest.mark.parametrize("model", ("ViT-Ti/16", "BiT-R50x1"))
def test_the_smoke_test_of_another_family(model, data_dir):
    training = build_training(recipe("imagenet", f"{model},32,smoke"))
    fields = training.card.model
    assert fields["name"] == model and fields["num_blocks"] in (2, (1, 1))
    batch = next(iter(training.reader.batches(0, 1)))
    step = training.update.compile()
    _, metrics = step(training.update.create_state(), batch)
    assert np.isfinite(metrics["loss"])


# Stochastic depth and dropout by the families' own papers, and by table 4 on ImageNet-21k, where
# those that drop all branches alike take the mean of its ramp.
RATES = {
    "ResMLP-B24/8": ((0.05, None), (0.05, None)),
    "gMLP-Ti": ((0.0, None), (0.05, None)),
    "gMLP-B": ((0.2, None), (0.05, None)),
    "ConvNeXt-S": ((0.4, None), (0.1, None)),
    "NFNet-F0": ((0.25, 0.2), (0.1, 0.0)),
    "HaloNet-H0": ((None, None), (None, None)),
}


@pytest.mark.parametrize("model", RATES)
def test_the_other_families_rates(model, data_dir):
    def rates(name):
        fields = recipe(name, model).model
        return fields.get("stochastic_depth"), fields.get("dropout")

    assert (rates("imagenet"), rates("imagenet21k")) == RATES[model]
    assert not any(rates("jft") + rates("finetune"))
    assert recipe("imagenet", model).optimizer.agc == (0.01 if model == "NFNet-F0" else 0)
    training = build_training(recipe("imagenet", f"{model},32,smoke"))  # traces a step
    assert training.card.model["num_blocks"] in (2, (1, 1))


def test_models_without_a_row_take_their_neighbours():
    def settings(name, model):
        config = recipe(name, model)
        keys = ("total", "mixup", "schedule", "optimizer", "input")
        return {key: config[key] for key in keys}

    assert settings("imagenet21k", "Mixer-S/32") == settings("imagenet21k", "Mixer-B/16")
    for model in ("Mixer-H/14", "ViT-L/32", "ViT-H/14"):
        assert settings("imagenet21k", model) == settings("imagenet21k", "Mixer-L/16")
    for model in ("ViT-B/16", "BiT-R101x3"):
        assert settings("imagenet21k", model) == settings("imagenet21k", "Mixer-B/16")


@pytest.mark.parametrize("name, total", [("imagenet21k", 14_197_122), ("jft", 303_000_000)])
def test_what_is_held_out_is_not_trained_on(name, total):
    config = recipe(name)

    def part(split):
        ((of, chosen),) = absolute_ranges(name, split, {"full": total})
        assert of == "full"
        return range(total)[chosen]

    train, test, val = (
        part(entry.split) for entry in (config.input, config.evaluators.test, config.evaluators.val)
    )
    assert (len(test), len(val), len(train)) == (25_600, 25_600, total - 51_200)
    assert test.stop == val.start and val.stop == train.start and train.stop == total


def test_figure_2s_parts_take_the_same_steps(data_dir):
    """3, 10, 30, 100 % of the set for 233, 70, 23, 7 epochs."""
    config = recipe("jft", "smoke")
    # An epoch of the whole split is 30 steps.
    config.batch_size = 16
    config.input.split, config.total, config.schedule.warmup = "train[:480]", "7 epochs", "1 epochs"
    for fraction, epochs in ((0.03, 233), (0.1, 70), (0.3, 23), (1.0, 7)):
        config.input.fraction = fraction
        training = build_training(config)
        assert training.total == 210 and len(training.reader.source) == round(480 * fraction)
        assert training.epochs == pytest.approx(epochs, rel=0.04)


def test_the_head_starts_at_the_classes_share(data_dir):
    training = build_training(recipe("imagenet", "smoke"))
    params = training.update.init(None).params
    assert (params["head"]["bias"] == pytest.approx(-6.9)) and not params["head"]["kernel"].any()


@pytest.mark.slow
def test_contact_sheet_shows_what_the_recipe_makes(data_dir, tmp_path):
    sheet = ("--config.run=contact_sheet", "--config.sheet=10")
    code, _, err = run(data_dir, "configs/imagenet.py:64", tmp_path / "out", *sheet)
    assert code == 0, err
    picture = Image.open(tmp_path / "out" / "contact_sheet.png")
    # Three times as large as the images; below them a class and mixup's lambda.
    assert picture.size == (4 * (192 + 4), 3 * (192 + 4 + 2 * 12))
    assert len(picture.getcolors(100_000)) > 500
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["run"] == "contact_sheet" and results["dataset"] == "imagenet2012"
    code, _, err = run(
        data_dir, "configs/imagenet.py:64", tmp_path / "bad", *sheet[:1], "--config.sheet=0"
    )
    assert code == 2 and "config.sheet=0: expected 1 or more" in err


@pytest.mark.parametrize("name", ["folder", "finetune"])
def test_a_checkpoint_can_be_chosen_on_other_images_than_the_test(name):
    evaluators = recipe(name, "folder:PATH,Mixer-S/16,32").evaluators
    assert evaluators.test.split == "auto" and evaluators.dev.split == ""  # off
    assert evaluators.dev.transform == evaluators.test.transform
