"""The tables and pictures that `evaluate` writes agree with its metrics and with `predict`."""

import csv
import dataclasses
import functools
import json
import types
from collections import Counter

import jax
import numpy as np
import pytest
from etils import epath
from PIL import Image
from test_folders import COLOURS, config_of

from mixer import register_writer
from mixer.checkpoint.model_card import ModelCard
from mixer.evaluation.answers import Answers
from mixer.runs import answers, evaluate
from mixer.runs.trained import load_trained
from mixer.training import writers
from mixer.weights import class_names

pytestmark = pytest.mark.usefixtures("one_device")


def rows_of(file):
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


@pytest.fixture(scope="module")
def shown():
    """What `evaluated` told its writer: (method, arguments ...)."""
    calls = []
    methods = ("scalars", "image", "close")
    keep = {name: functools.partial(lambda *call: calls.append(call), name) for name in methods}
    register_writer("kept", lambda session: types.SimpleNamespace(**keep))
    yield calls
    del writers._WRITERS["kept"]


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory, shown):
    """Drawn parameters, measured on 27 images of which one cannot be read."""
    root = tmp_path_factory.mktemp("evaluated")
    rng = np.random.default_rng(0)
    for name in COLOURS:
        (root / "in" / name).mkdir(parents=True)
        for i in range(9):
            colour = tuple(rng.integers(0, 256, 3).tolist())
            Image.new("RGB", (16, 16), colour).save(root / "in" / name / f"{i}.png")
    (root / "in" / "green" / "4.png").write_bytes(b"broken")
    config = config_of(root / "in", run="evaluate")
    config.input.on_bad = "skip"
    config.evaluators.test.split, config.writers = "all", "kept"
    trained = load_trained(config)
    params = jax.tree.map(
        lambda old: jax.device_put(rng.standard_normal(old.shape).astype(np.float32), old.sharding),
        trained.params,
    )
    write = answers.write

    def after_the_results(folder, *what):
        assert (folder.parent / "results.json").exists()
        return write(folder, *what)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            evaluate, "load_trained", lambda config: dataclasses.replace(trained, params=params)
        )
        patch.setattr(answers, "write", after_the_results)
        evaluate.run(config, str(root / "out"), "folder")
    return root / "out"


def test_each_table_gives_the_accuracy(evaluated):
    results = json.loads((evaluated / "results.json").read_text())
    metrics = results["metrics"]
    assert results["skipped_examples"] == 1 and set(results["mesh"]) == {"data", "fsdp", "tensor"}
    top1 = pytest.approx(metrics["test/top1"], abs=1e-5)
    predictions = rows_of(evaluated / "test" / "predictions.csv")
    assert len(predictions) == 26 and metrics["test/skipped"] == 1
    assert all(row["file"].startswith(f"{row['label']}/") for row in predictions)
    assert "green/4.png" not in {row["file"] for row in predictions}
    right = [row["label"] == row["predicted"] for row in predictions]
    assert sum(right) / 26 == top1 and len({row["predicted"] for row in predictions}) > 1
    nll = -np.log([float(row["probability_of_label"]) for row in predictions]).mean()
    assert nll == pytest.approx(metrics["test/nll"], rel=1e-3)

    per_class = rows_of(evaluated / "test" / "per_class.csv")
    assert [row["class"] for row in per_class] == sorted(COLOURS)
    images = [int(row["images"]) for row in per_class]
    assert images == [9, 8, 9]
    accuracies = [float(row["top1"]) for row in per_class]
    assert np.average(accuracies, weights=images) == top1

    confusion = rows_of(evaluated / "test" / "confusion.csv")
    pairs = Counter((row["label"], row["predicted"]) for row in predictions)
    assert pairs == {(row["label"], row["predicted"]): int(row["images"]) for row in confusion}
    first = next(row for row in confusion if row["label"] == confusion[0]["label"])
    taken = {row["class"]: (row["most_taken_for"], row["times"]) for row in per_class}
    assert taken[first["label"]] == (first["predicted"], first["images"])


def test_the_pictures_are_drawn_and_the_worst_mistakes_shown(evaluated):
    folder = evaluated / "test"
    for name in ("confusion", "reliability"):
        with Image.open(folder / f"{name}.png") as image:
            assert min(image.size) > 500
            assert np.asarray(image.convert("L")).std() > 5  # something is drawn
    predictions = rows_of(folder / "predictions.csv")
    wrong = [row for row in predictions if row["label"] != row["predicted"]]
    worst = min(wrong, key=lambda row: float(row["probability_of_label"]))
    with (
        Image.open(folder / "mistakes.png") as sheet,
        Image.open(evaluated.parent / "in" / worst["file"]) as image,
    ):
        # The first, enlarged ten times.
        shown = np.asarray(sheet.convert("RGB"))[5:160:10, 5:160:10]
        np.testing.assert_array_equal(shown, np.asarray(image.convert("RGB")))


def test_a_writer_gets_the_metrics_and_the_pictures(evaluated, shown):
    first, scalars, mistakes, close = shown
    metrics = json.loads((evaluated / "results.json").read_text())["metrics"]
    assert scalars == ("scalars", 0, metrics) and close == ("close", "finished", {})
    assert first[:3] == ("image", 0, "test/first_batch")
    assert mistakes[:3] == ("image", 0, "test/mistakes")
    with Image.open(evaluated / "test" / "mistakes.png") as sheet:
        np.testing.assert_array_equal(np.asarray(mistakes[3]), np.asarray(sheet))
    row = rows_of(evaluated / "test" / "predictions.csv")[0]
    assert row["index"] == "0"
    with Image.open(evaluated.parent / "in" / row["file"]) as image:
        seen = np.asarray(first[3])[5:160:10, 5:160:10]
        np.testing.assert_array_equal(seen, np.asarray(image.convert("RGB")))


def test_a_picture_that_cannot_be_drawn_is_only_a_warning(tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise RuntimeError("no fonts")

    monkeypatch.setattr(answers.diagrams, "reliability", fail)
    (tmp_path / "config.json").write_text("{}")
    given = Answers(*map(np.array, ([0], [1], [[0, 1]], [[0.7, 0.3]], [0.3])))
    card = ModelCard({}, (8, 8), "resize", ("cat", "dog"), "mine")
    reader = types.SimpleNamespace(source=types.SimpleNamespace())
    answers.write(epath.Path(tmp_path) / "test", card, reader, given)
    assert f"warning: {tmp_path / 'test'} lacks tables or pictures: no fonts" in (
        capsys.readouterr().out
    )
    assert len(rows_of(tmp_path / "test" / "confusion.csv")) == 1


def test_imagenets_classes_keep_their_synsets_beside_their_names():
    wnids = ("n02099601", "n02012849", "n03126707")
    card = ModelCard({}, (8, 8), "resize", wnids, "imagenet2012")
    names = class_names.readable(wnids)
    given = Answers(*map(np.array, ([4], [0], [[1, 0, 2]], [[0.7, 0.2, 0.1]], [0.2])))
    (row,) = answers._predictions(given, card, names, None)
    assert (row["label"], row["label_name"]) == ("n02099601", "golden retriever")
    assert (row["predicted"], row["predicted_name"]) == ("n02012849", "crane (n02012849)")
    assert row["index"] == 4 and "file" not in row
