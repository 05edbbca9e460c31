"""Several views of each image, from the config to the tables of `evaluate` and `predict`."""

import csv
import dataclasses
import json

import jax
import numpy as np
import pytest
from PIL import Image
from scipy.special import softmax
from test_folders import COLOURS, config_of

from mixer import batch as batch_lib
from mixer import errors
from mixer.data import transforms
from mixer.runs import evaluate, predict
from mixer.runs.trained import load_trained

pytestmark = pytest.mark.usefixtures("one_device")

TRANSFORM = "resize_small(20)|central_crop(16)"


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    rng = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("images")
    for name in COLOURS:
        (root / name).mkdir()
        for i in range(3):
            pixels = rng.integers(0, 256, (30, 24, 3), np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def trained(images):
    """Drawn parameters, so that views differ in what they show."""
    rng = np.random.default_rng(0)
    config = config_of(images, run="evaluate")
    config.evaluators.test.transform = TRANSFORM
    trained = load_trained(config)
    draw = lambda old: jax.device_put(rng.normal(size=old.shape).astype(np.float32), old.sharding)
    return dataclasses.replace(trained, params=jax.tree.map(draw, trained.params))


def by_hand(trained, file):
    """The mean over the four corners, the centre and their mirror images, float [K]."""
    with Image.open(file) as image:
        large = transforms.ResizeSmall(20)(np.asarray(image), None)
    tall, wide = large.shape[0] - 16, large.shape[1] - 16
    places = [(0, 0), (0, wide), (tall, 0), (tall, wide), (tall // 2, wide // 2)]
    seen = np.stack([large[top : top + 16, left : left + 16] for top, left in places])
    seen = np.concatenate([seen, seen[:, :, ::-1]])
    logits = trained.model.apply({"params": trained.params}, batch_lib.to_model_input(seen))
    return softmax(np.asarray(logits, np.float64), axis=1).mean(axis=0)


def test_evaluate_and_predict_average_ten_crops(images, trained, tmp_path, monkeypatch):
    for module in (evaluate, predict):
        monkeypatch.setattr(module, "load_trained", lambda config: trained)
    config = config_of(images, run="evaluate")
    config.evaluators.test.update(split="all", views="ten_crops")
    evaluate.run(config, str(tmp_path / "evaluated"), "folder")
    with (tmp_path / "evaluated" / "test" / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    classes = sorted(COLOURS)
    wanted = {row["file"]: by_hand(trained, images / row["file"]) for row in rows}
    for row in rows:
        wants = wanted[row["file"]]
        assert row["predicted"] == classes[wants.argmax()]
        of_label = wants[classes.index(row["label"])]
        assert float(row["probability_of_label"]) == pytest.approx(of_label, abs=2e-5)
    metrics = json.loads((tmp_path / "evaluated" / "results.json").read_text())["metrics"]
    nll = [-np.log(wanted[row["file"]][classes.index(row["label"])]) for row in rows]
    assert metrics["test/nll"] == pytest.approx(np.mean(nll), rel=1e-3)
    with Image.open(tmp_path / "evaluated" / "test" / "mistakes.png") as sheet:
        assert sheet.height < 4 * 200  # one crop of each image, not five

    config = config_of(images, run="predict", images=str(images))
    config.predict.views = "ten_crops"
    predict.run(config, str(tmp_path / "predicted"), "folder")
    for line in (tmp_path / "predicted" / "predictions.jsonl").read_text().splitlines():
        said = json.loads(line)
        wants = wanted[said["file"].removeprefix(f"{images}/")]
        for guess in said["top"]:
            want = wants[classes.index(guess["class"])]
            assert guess["probability"] == pytest.approx(want, abs=2e-5)


def test_crops_need_a_transform_that_crops(images, trained, tmp_path, monkeypatch):
    card = dataclasses.replace(trained.card, transform="resize")
    config = config_of(images, run="evaluate")
    config.evaluators.test.update(split="all", views="five_crops")
    with pytest.raises(errors.BadInput, match="'resize' does not end in central_crop"):
        evaluate.evaluations_of(config, dataclasses.replace(trained, card=card))
    config.evaluators.test.views = "5crops"
    with pytest.raises(errors.BadInput, match="config.evaluators.test.views '5crops'"):
        evaluate.evaluations_of(config, trained)
