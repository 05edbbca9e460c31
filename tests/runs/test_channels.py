"""Whole runs on grey images and on arrays of five channels."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

import mixer
from configs import folder
from mixer import errors
from mixer.checkpoint.model_card import ModelCard
from mixer.runs import contact_sheet, evaluate, predict, train
from mixer.runs.training import build_training

pytestmark = pytest.mark.usefixtures("one_device")


def config_of(root, channels, run="train", **changes):
    config = folder.get_config(f"arrays:{root}/{channels}.npz,Mixer-S/16,8", run)
    config.model.update(patch_size=4, num_blocks=1, hidden_dim=8, in_chans=channels)
    config.model.update(tokens_mlp_dim=4, channels_mlp_dim=8)
    config.batch_size = config.evaluators.test.batch_size = 8
    config.input.transform = config.evaluators.test.transform = "resize"
    config.schedule.warmup, config.evaluators.test.every = "1 steps", "3 steps"
    config.update({"total": "3 steps"} | changes)
    return config


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("channels")
    rng = np.random.default_rng(0)
    for channels in (1, 5):
        images = rng.integers(0, 256, (24, 8, 8, channels)).astype(np.uint8)
        arrays = {"train_images": images[:16], "test_images": images[16:]}
        labels = {"train_labels": np.arange(16) % 2, "test_labels": np.arange(8) % 2}
        np.savez(root / f"{channels}.npz", **arrays, **labels)
    Image.fromarray(rng.integers(0, 256, (9, 9, 3)).astype(np.uint8)).save(root / "a.png")
    return root


@pytest.fixture(scope="module")
def trained(root):
    train.run(config_of(root, 1), str(root / "run"), "folder")
    return root / "run"


def test_a_grey_model_is_trained_measured_and_asked(root, trained, tmp_path):
    results = json.loads((trained / "results.json").read_text())
    config = config_of(root, 1, "evaluate", init_from=str(trained))
    evaluate.run(config, str(tmp_path / "evaluated"), "folder")
    again = json.loads((tmp_path / "evaluated" / "results.json").read_text())["metrics"]
    assert again == pytest.approx(results["metrics"], rel=1e-5)
    config = config_of(root, 1, "predict", init_from=str(trained), images=f"{root}/a.png")
    predict.run(config, str(tmp_path / "predicted"), "folder")
    (line,) = map(json.loads, (tmp_path / "predicted" / "predictions.jsonl").open())
    model, params, card = mixer.load(trained)
    assert card.channels == model.in_chans == 1 and params["stem"]["kernel"].shape[2] == 1
    images = mixer.preprocess(root / "a.png", card)
    assert images.shape == (1, 8, 8, 1)
    logits = np.asarray(model.apply({"params": params}, images))[0]
    expected = np.exp(logits) / np.exp(logits).sum()
    guess = line["top"][0]
    assert guess["probability"] == pytest.approx(expected[int(guess["class"])], rel=1e-4)


def test_five_channels(root):
    training = build_training(config_of(root, 5))
    update = training.update
    assert update.abstract_batch()["image"].shape == (8, 8, 8, 5)
    assert training.card.channels == 5 and update.shapes["stem"]["kernel"].shape == (4, 4, 5, 8)
    narrower = build_training(config_of(root, 1)).update
    assert update.num_params - narrower.num_params == 4 * 4 * 4 * 8
    # Three products for each weight and patch: forward, and two gradients but of the images.
    macs = update.flops_per_image // 2 - narrower.flops_per_image // 2
    assert macs == 2 * (4 * 4 * 4 * 8) * 4
    with training.reader.batches(0, 1) as batches:
        batch = next(batches)
    assert batch["image"].shape == (8, 8, 8, 5)
    sheet = contact_sheet.of_batch(batch, training.reader.source.classes)
    assert np.asarray(sheet).std() > 5
    config = config_of(root, 5)
    config.model.in_chans = 3
    assert "set config.model.in_chans=5" in build_training(config).unreadable()
    config.model.in_chans = 0
    with pytest.raises(errors.BadInput, match="config.model.in_chans=0: expected a whole"):
        build_training(config)


def test_a_card_of_before_is_of_rgb():
    card = ModelCard({"name": "Mixer-S/16"}, (8, 8), "resize", ("a", "b"), "digits")
    assert card.channels == 3 and ModelCard.from_json(dataclasses.asdict(card)).channels == 3
