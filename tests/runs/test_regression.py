"""Regression and soft targets in whole runs."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import mean_absolute_error, r2_score

import mixer
from configs import common, folder
from mixer import errors
from mixer.checkpoint.reading import read_meta
from mixer.data.sources import label_kinds
from mixer.evaluation.registry import EVALUATORS
from mixer.runs import convert, evaluate, predict, train
from mixer.runs.evaluate import evaluations_of
from mixer.runs.keys import track
from mixer.runs.labels import check_loss
from mixer.runs.trained import load_trained
from mixer.runs.training import build_training
from mixer.runs.weights import card_of_config

pytestmark = pytest.mark.usefixtures("one_device")

COUNT = 60


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Images of one colour; labels are the red and blue as numbers, or as a soft class."""
    root = tmp_path_factory.mktemp("regression")
    colours = np.random.default_rng(0).integers(0, 256, (COUNT, 3)).astype(np.uint8)
    images = np.ascontiguousarray(np.broadcast_to(colours[:, None, None], (COUNT, 8, 8, 3)))
    share = colours[:, ::2] / 255
    soft = np.stack([share[:, 0], 1 - share[:, 0]], axis=1)
    for name, labels, names in (("numbers", 3 * share - 1, "rb"), ("soft", soft, ("red", "not"))):
        np.savez(
            root / f"{name}.npz",
            train_images=images[20:],
            train_labels=labels[20:],
            test_images=images[:20],
            test_labels=labels[:20],
            classes=list(names),
        )
    for i in range(3):
        Image.fromarray(images[i]).save(root / f"{i}.png")
    return root


def config_of(root, name="numbers", run="train", **changes):
    config = folder.get_config(f"arrays:{root}/{name}.npz,Mixer-S/16,8", run)
    config.model.update(patch_size=8, num_blocks=1, hidden_dim=16)
    config.model.update(tokens_mlp_dim=4, channels_mlp_dim=16)
    config.batch_size = config.evaluators.test.batch_size = 24
    config.input.transform = config.evaluators.test.transform = "resize"
    if name == "numbers":
        config.loss, config.evaluators.test.type = "mse", "regression"
    config.update(changes)
    return config


@pytest.fixture(scope="module")
def trained(root):
    config = config_of(root, total="50 steps", best="test/mse/b")
    config.schedule.update(base=0.03, warmup="5 steps")
    config.evaluators.test.every = "25 steps"
    train.run(config, str(root / "run"), "folder")
    return root / "run"


def rows_of(file):
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


def test_a_run_learns_and_its_card_says_what_it_outputs(trained):
    results = json.loads((trained / "results.json").read_text())
    assert results["metrics"]["test/r2"] > 0.8
    log = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert any("test/mae/b" in line for line in log)
    measured = {line["step"]: line["test/mse/b"] for line in log if "test/mse/b" in line}
    assert len(measured) == 2
    best = read_meta(str(trained), "best")["step"]
    assert best == min(measured, key=measured.get)
    assert not any("accuracy" in name for line in log for name in line)
    model, _, card = mixer.load(trained)
    assert card.regression and card.class_names == ("r", "b") and model.num_classes == 2
    assert not card.multi_label
    with pytest.raises(errors.BadInput, match="predicts r, b, not classes"):
        mixer.Classifier(trained)


def test_evaluate_writes_the_numbers_from_which_the_metrics_follow(root, trained, tmp_path):
    config = config_of(root, run="evaluate", init_from=str(trained))
    evaluate.run(config, str(tmp_path / "out"), "folder")
    metrics = json.loads((tmp_path / "out" / "results.json").read_text())["metrics"]
    again = json.loads((trained / "results.json").read_text())["metrics"]
    assert {name: metrics[name] for name in again} == pytest.approx(again, rel=1e-5)
    rows = rows_of(tmp_path / "out" / "test" / "predictions.csv")
    assert [row["index"] for row in rows] == [str(i) for i in range(20)]
    true, predicted = (
        np.array([[float(row[f"{name}_{what}"]) for name in "rb"] for row in rows])
        for what in ("true", "predicted")
    )
    assert metrics["test/mae"] == pytest.approx(mean_absolute_error(true, predicted), rel=1e-4)
    each = r2_score(true, predicted, multioutput="raw_values")
    per_output = rows_of(tmp_path / "out" / "test" / "per_output.csv")
    for name, row, r2 in zip("rb", per_output, each, strict=True):
        assert row["output"] == name and float(row["r2"]) == pytest.approx(r2, rel=1e-4)
        assert float(row["r2"]) == pytest.approx(metrics[f"test/r2/{name}"], rel=1e-4)
    with Image.open(tmp_path / "out" / "test" / "predicted.png") as image:
        assert np.asarray(image.convert("L")).std() > 5  # something is drawn


def test_predict_gives_the_numbers_of_files(root, trained, tmp_path):
    (root / "broken.png").write_bytes(b"broken")
    files = f"{root}/0.png,{root}/broken.png,{root}/1.png"
    config = config_of(root, run="predict", init_from=str(trained), images=files)
    predict.run(config, str(tmp_path / "out"), "folder")
    rows = rows_of(tmp_path / "out" / "predictions.csv")
    model, params, card = mixer.load(trained)
    asked = mixer.preprocess([root / "0.png", root / "1.png"], card)
    expected = model.apply({"params": params}, asked)
    got = np.array([[float(rows[i][name]) for name in "rb"] for i in (0, 2)])
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    assert rows[1]["r"] == rows[1]["b"] == "" and rows[1]["error"].startswith("not a readable")
    lines = list(map(json.loads, (tmp_path / "out" / "predictions.jsonl").open()))
    assert list(lines[0]["outputs"]) == ["r", "b"] and "outputs" not in lines[1]
    config = track(config, {"--config.predict.top=3": ("predict.top",)})
    with pytest.raises(errors.BadInput, match="predict.top=.* is for classes, but .*r, b"):
        predict.run(config, None, "folder")


def test_what_makes_no_sense_is_refused(root, trained):
    data = f"arrays:{root}/numbers.npz"
    for message, changes in {
        "labels of arrays:.* are numbers: set config.loss=mse.*integers": {"loss": "softmax_xent"},
        "'soft_xent' is for distributions over the classes, but": {"loss": "soft_xent"},
        "images of digits have one class each: set .*softmax_xent": {"dataset": "digits"},
        "label_smoothing=0.1 spreads targets over classes": {"label_smoothing": 0.1},
        "outputs that are numbers.*type=regression": {"type": "classification"},
        "outputs that are logits.*type=classification": {"name": "soft", "type": "regression"},
        "labels of .*soft.npz are distributions.*type=classification": {
            "name": "soft",
            "type": "imagenet_a",
        },
        "type fewshot is for one label per image, but .* has numbers": {"type": "fewshot"},
    }.items():
        kind = changes.pop("type", "")
        config = config_of(root, **changes)
        if kind == "fewshot":
            config.evaluators.few = common.fewshot(config, ((data, "train", "test"),), "1 epochs")
        elif kind:
            config.evaluators.test.type = kind
        with pytest.MonkeyPatch.context() as patch, pytest.raises(errors.BadInput, match=message):
            patch.setitem(EVALUATORS, "imagenet_a", lambda apply, num_classes: object())
            build_training(config)
    config = config_of(root, run="convert", init_from=str(trained), convert_to="here/")
    with pytest.raises(errors.BadInput, match="a folder of the Hub is for classes, but .*r, b"):
        convert.conversion(config)


def test_soft_targets_are_classified(root):
    """And sigmoid_xent takes them, too."""
    config = config_of(root, "soft", run="evaluate", init_from="random")
    found = load_trained(config)
    assert found.card.classes == ("red", "not") and not found.card.regression
    (evaluation,) = evaluations_of(config, found)
    metrics = evaluation.measure(found.params)
    # The head is zero: both classes have the same logit, and so the cross-entropy is log 2.
    assert metrics["nll"] == pytest.approx(np.log(2)) and metrics["top5"] == 1
    training = build_training(config_of(root, "soft", loss="sigmoid_xent"))
    assert training.update.abstract_batch()["label"].shape == (24, 2)
    assert not training.card.multi_label


@pytest.mark.parametrize("loss, regression", [("softmax_xent", False), ("mse", True)])
def test_the_loss_decides_what_a_file_trained_on_distributions_outputs(root, loss, regression):
    config = config_of(root, "soft", run="predict", init_from="random", loss=loss)
    assert card_of_config(config).regression == regression
    numbers = config_of(root, run="predict", init_from="random", loss=loss)
    assert card_of_config(numbers).regression


@pytest.mark.parametrize(
    "dataset, mend",
    [("arrays:a.npz", "store them as integers"), ("manifest:a.csv", "call their column label")],
)
def test_numbers_that_may_be_classes_get_the_mend_of_their_form(dataset, mend):
    with pytest.raises(errors.BadInput, match=f"config.loss=mse. If they number classes, {mend}"):
        check_loss("softmax_xent", label_kinds.Labels("values"), dataset, 0)


def test_a_distribution_off_by_rounding_is_told_how_far_it_may_be():
    labels = np.full((4, 3), 0.33)
    kind = label_kinds.kind_of(labels)
    with pytest.raises(errors.BadInput, match="should add up to 1, bring them to it within 0.001$"):
        check_loss("softmax_xent", label_kinds.Labels(kind), "arrays:votes.npz", 0)
    assert label_kinds.kind_of(labels / labels.sum(axis=1, keepdims=True)) == "distribution"
