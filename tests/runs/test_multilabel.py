"""Several labels per image, in whole runs."""

import csv
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from runs_command import run
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

from configs import folder, jft
from mixer import errors
from mixer.evaluation.registry import EVALUATORS
from mixer.runs import evaluate
from mixer.runs.training import build_training
from mixer.training import step

pytestmark = pytest.mark.usefixtures("one_device")


def small(words="Mixer-S/16,32", recipe=jft):
    config = recipe.get_config(words)
    config.model.update(num_blocks=1, hidden_dim=8, tokens_mlp_dim=8, channels_mlp_dim=8)
    config.input.split, config.batch_size, config.total = "full[:40]", 16, "4 steps"
    config.schedule.warmup = "1 steps"
    for entry in config.evaluators.values():
        if entry.split:
            entry.update(split="full[40:]", batch_size=16)
    return config


def test_what_is_for_one_label_is_refused_with_the_fix(data_dir, monkeypatch):
    config = small("jft,Mixer-S/16,32", folder)
    with pytest.raises(errors.BadInput, match="may have 3 labels: set config.loss=sigmoid_xent"):
        build_training(config)
    config.loss = "sigmoid_xent"
    fix = "'classification' is for one label.* set config.evaluators.test.type=multilabel"
    with pytest.raises(errors.BadInput, match=fix):
        build_training(config)
    # A user's own evaluator declares that it handles sets of labels.
    monkeypatch.setitem(EVALUATORS, "mine", lambda apply, num_classes: object())
    config.evaluators.test.type = "mine"
    with pytest.raises(errors.BadInput, match="'mine' is for one label per image"):
        build_training(config)
    config.evaluators.test.type = "multilabel"
    assert build_training(config).card.multi_label


@pytest.mark.parametrize("fraction", [0.0, -0.5, 1.01, float("nan")])
def test_invalid_fractions_are_refused(data_dir, fraction):
    config = small()
    config.input.fraction = fraction
    with pytest.raises(errors.BadInput, match="expected 0 < fraction <= 1"):
        build_training(config)
    config.input.update(fraction=0.5, fraction_seed=-1)
    with pytest.raises(errors.BadInput, match="config.input.fraction_seed=-1"):
        build_training(config)


def test_a_step_and_an_evaluation(data_dir):
    training = build_training(small())
    state = training.update.create_state()
    batch = next(training.reader.batches(0, 1))
    assert batch["label"].shape == (16, 3)
    state, metrics = step.guarded(training.update.compile())(state, batch)
    # All logits are -10, so a class costs log(1 + e^-10), and each of a row's labels 10 more.
    label = np.asarray(batch["label"])
    number = np.mean([len(set(row.tolist()) - {-1}) for row in label])
    want = 18_291 * np.log1p(np.exp(-10)) + 10 * number
    assert float(metrics["loss"]) == pytest.approx(want, rel=1e-5)
    (test,) = [e for e in training.evaluations if e.name == "test"]
    totals = [jax.device_get(test.update(state.params, b)) for b in test.reader.batches()]
    sets = [test.reader.source[i]["label"] for i in range(24)]
    assert sum(int(part.top1.count) for part in totals) == sum(len(s) > 0 for s in sets) < 24


def test_evaluate_writes_the_probabilities_from_which_the_metrics_follow(tmp_path, capsys):
    rng = np.random.default_rng(0)
    targets = (rng.random((30, 3)) < 0.3).astype(np.float32)
    targets[:, 2] = 0  # a class that no image has
    images = rng.integers(0, 256, (30, 8, 8, 3)).astype(np.uint8)
    names = np.array(["a", "b", "c"])
    np.savez(tmp_path / "m.npz", test_images=images, test_labels=targets, classes=names)
    config = folder.get_config(f"arrays:{tmp_path}/m.npz,Mixer-S/16,8", "evaluate")
    config.model.update(patch_size=8, num_blocks=1, hidden_dim=16)
    config.model.update(tokens_mlp_dim=4, channels_mlp_dim=16)
    config.update(loss="sigmoid_xent", init_from="random")
    config.evaluators.test.update(type="multilabel", split="test", batch_size=16)
    evaluate.run(config, str(tmp_path / "out"), "folder")
    metrics = json.loads((tmp_path / "out" / "results.json").read_text())["metrics"]
    with (tmp_path / "out" / "test" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    with (tmp_path / "out" / "test" / "per_class.csv").open() as file:
        per_class = list(csv.DictReader(file))
    assert len(rows) == 30
    loss, order = 0, [int(Path(row["file"]).stem) for row in rows]
    for k, (name, line) in enumerate(zip("abc", per_class, strict=True)):
        true, guess = (
            np.array([float(row[f"{name}_{what}"]) for row in rows])
            for what in ("true", "probability")
        )
        np.testing.assert_array_equal(true, targets[order, k])
        loss += log_loss(true, guess, labels=[0, 1])
        assert (line["class"], int(line["images"])) == (name, true.sum())
        if true.any():
            assert float(line["average_precision"]) == pytest.approx(
                average_precision_score(true, guess), abs=1e-6
            )
            assert float(line["roc_auc"]) == pytest.approx(roc_auc_score(true, guess), abs=1e-6)
        else:
            assert line["average_precision"] == line["roc_auc"] == ""
    assert metrics["test/loss"] == pytest.approx(loss, rel=1e-5)
    assert "mean average precision 0." in capsys.readouterr().out


@pytest.mark.long
def test_train_evaluate_predict_and_contact_sheet(data_dir, tmp_path):
    """Also: a dataset known only because it is prepared in the data_dir of the command."""

    def overrides(*groups):  # a run refuses the keys that it does not read
        keys = [key for key in OVERRIDES if key.startswith(groups)]
        given = [f"--config.{key}={OVERRIDES[key]}" for key in keys]
        return [*given, f"--config.runtime.data_dir={data_dir}"]

    command = "configs/jft.py:Mixer-S/16,32,imagenet21k"
    there = {"TFDS_DATA_DIR": str(tmp_path / "nowhere")}
    workdir = tmp_path / "run"
    code, out, err = run(data_dir, command, workdir, *overrides(""), **there)
    assert code == 0, err
    assert "imagenet21k full[:40] (20 images)" in out
    results = json.loads((workdir / "results.json").read_text())
    assert results["step"] == 4 and results["epochs"] == 4 * 16 / 20
    assert set(results["metrics"]) == {
        f"{name}/{metric}" for name in ("test", "val") for metric in ("top1", "loss")
    }
    logs = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in logs if "epoch" in line][-1] == results["epochs"]

    trained = f"--config.init_from={workdir}"
    again = (*overrides("evaluators."), "--config.run=evaluate", trained)
    code, _, err = run(data_dir, command, tmp_path / "evaluate", *again, **there)
    assert code == 0, err
    measured = json.loads((tmp_path / "evaluate" / "results.json").read_text())["metrics"]
    assert measured == pytest.approx(results["metrics"], rel=1e-5)

    Image.new("RGB", (40, 40), "red").save(tmp_path / "red.png")
    predict = ("--config.run=predict", f"--config.images={tmp_path / 'red.png'}", trained)
    code, _, err = run(data_dir, "configs/jft.py", tmp_path / "predict", *predict)
    assert code == 0, err
    (line,) = (tmp_path / "predict" / "predictions.jsonl").read_text().splitlines()
    best = json.loads(line)["top"][0]
    # Sigmoids that start at -10; a softmax over 21,843 equal logits would give 1 / 21,843.
    assert best["probability"] == pytest.approx(1 / (1 + np.exp(10)), rel=0.1)

    sheet = (*overrides("input."), "--config.run=contact_sheet", "--config.sheet=9")
    command = "configs/jft.py:32,imagenet21k"
    code, _, err = run(data_dir, command, tmp_path / "sheet", *sheet, **there)
    assert code == 0, err
    assert (tmp_path / "sheet" / "contact_sheet.png").exists()


OVERRIDES = {
    "model.num_blocks": 1,
    "model.hidden_dim": 8,
    "input.split": "full[:40]",
    "input.fraction": 0.5,
    "batch_size": 16,
    "total": "4 steps",
    "schedule.warmup": "1 steps",
    "schedule.base": 1e-5,
    "evaluators.test.split": "full[40:]",
    "evaluators.val.split": "full[40:50]",
    "evaluators.test.batch_size": 16,
    "evaluators.val.batch_size": 16,
    "runtime.log_every": "2 steps",
}
