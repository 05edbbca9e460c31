"""Few-shot evaluation and optional evaluators, from the config to results.json."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import AxisType, Mesh
from sklearn.neighbors import KNeighborsClassifier

from configs import common, fewshot, imagenet, quickstart
from mixer import batch as batch_lib
from mixer import errors
from mixer.evaluation import features
from mixer.runs import evaluate, train
from mixer.runs import fewshot as fewshot_run
from mixer.runs.evaluate import evaluations_of
from mixer.runs.fewshot import few_shot_of
from mixer.runs.trained import load_trained
from mixer.runs.training import build_training
from mixer.training import meshes

DIGITS = ("digits", "train[:200]", "test[:40]")


def small(recipe=fewshot, words="Mixer-S/16,32"):
    config = recipe.get_config(words)
    config.model.update(
        num_blocks=1, hidden_dim=8, tokens_mlp_dim=8, channels_mlp_dim=8, patch_size=8
    )
    config.batch_size, config.init_from = 64, "random"
    for entry in config.evaluators.values():
        entry.batch_size = 64
    return config


@pytest.fixture(scope="module")
def trained(data_dir):
    """A model without a head, for images of 32 x 32."""
    return load_trained(small())


def few_shot(trained, **entry):
    config = small()
    config.evaluators.fewshot.update({"datasets": (DIGITS,)} | entry)
    return few_shot_of(config, trained)


def results(workdir):
    return json.loads((workdir / "results.json").read_text())


def test_during_training_by_evaluate_and_as_a_run_of_its_own(data_dir, tmp_path, told, capsys):
    config = small(quickstart, "Mixer-S/16,digits,32")
    config.init_from = ""
    config.evaluators.few = common.fewshot(config, (DIGITS,), "2 steps")
    config.evaluators.few.shots = (1, 5)
    config.evaluators.gone = common.evaluator(config, "test", "resize", "2 steps")
    config.evaluators.gone.update(dataset="imagenet_v2", optional=True)
    config.update(total="4 steps", best="few/digits/5shot", writers="told")
    config.schedule.warmup = "1 steps"
    config.evaluators.test.split = "test[:40]"
    train.run(config, str(tmp_path / "train"), "")
    assert "warning: config.evaluators.gone is left out: dataset 'imagenet_v2'" in (
        capsys.readouterr().out
    )
    while_training = results(tmp_path / "train")["metrics"]
    wanted = {"few/digits/1shot", "few/digits/5shot"}
    assert {name for name in while_training if "test/" not in name} == wanted
    logs = (tmp_path / "train" / "metrics.jsonl").read_text().splitlines()
    assert sum("few/digits/5shot" in line for line in logs) == 2

    _check_told(told, [json.loads(line) for line in logs], while_training, config.total)

    config.update(run="evaluate", init_from=str(tmp_path / "train"))
    evaluate.run(config, str(tmp_path / "evaluate"), "")
    assert results(tmp_path / "evaluate")["metrics"] == pytest.approx(while_training, abs=0.03)

    config = small()
    config.evaluators.fewshot.update(datasets=(DIGITS,), shots=(1, 5))
    config.init_from = str(tmp_path / "train")
    fewshot_run.run(config, str(tmp_path / "fewshot"), "fewshot")
    written = results(tmp_path / "fewshot")
    assert written["run"] == "fewshot" and written["dataset"] == "digits" and written["step"] == 4
    assert written["upstream"]["dataset"] == "digits" and written["resolution"] == 32
    want = {name.replace("few/", "fewshot/"): while_training[name] for name in wanted}
    assert written["metrics"] == pytest.approx(want, abs=0.03)


def _check_told(told, logs, metrics, total):
    """The writer saw the training: its config, first batch and lines, and how it ended."""
    (writer,) = told
    assert writer.session.config["total"] == total and writer.session.step == 0
    first, *rest = [call for call in writer.calls if call != ("flush",)]
    assert first[:3] == ("image", 0, "first_batch") and min(first[3].size) > 160
    *scalars, close = rest
    assert [{"step": step} | line for _, step, line in scalars] == logs
    assert close == ("close", "finished", metrics)


def test_both_rules_on_several_datasets(trained, image_folder, capsys):
    folder = f"folder:{image_folder}"
    datasets = (DIGITS, (folder, "train", "test"))
    ranked = few_shot(trained, datasets=datasets, shots=(2,), rule="ranked")
    assert ranked.directions == {"digits/2shot": True, f"{folder}/2shot": True}
    measured = ranked.measure(trained.params)
    assert set(measured) == {*ranked.directions, "l2/2shot"}
    # Dark, grey and light are easy to tell apart with any features.
    assert measured[f"{folder}/2shot"] > 0.9
    # One of the folder's classes has 5 training images.
    fewer = few_shot(trained, datasets=datasets, shots=(2, 10), rule="fixed")
    for said in (
        f"{folder}: 1 of 3 classes have fewer than 10 training examples, the smallest 5",
        "",
    ):
        assert set(fewer.measure(trained.params)) == {*ranked.directions, "digits/10shot"}
        assert said in (out := capsys.readouterr().out) and bool(out) == bool(said)
    fixed = few_shot(trained, datasets=datasets, shots=(2,), rule="fixed")
    assert set(fixed.measure(trained.params)) == set(fixed.directions)
    assert fixed.measure(trained.params, lambda: True) is None


def test_the_features_are_what_the_head_would_see_on_any_devices(trained):
    """Checked with a head that returns its input."""
    model = trained.model.clone(num_classes=8)
    head = {"kernel": np.eye(8, dtype=np.float32), "bias": np.zeros(8, np.float32)}
    params = jax.device_get(trained.params) | {"head": head}
    found = {}
    for count in (1, 8):
        devices = np.array(jax.devices()[:count]).reshape(count, 1, 1)
        mesh = Mesh(devices, meshes.AXES, axis_types=(AxisType.Auto,) * 3)
        placed = jax.device_put(params, meshes.replicated(mesh))
        few = few_shot(dataclasses.replace(trained, model=model, mesh=mesh))
        reader = few.readers[0]
        with reader.batches() as batches:
            found[count] = features.extract(few.update, placed, batches)
    assert found[8].features.shape == (200, 8)
    assert found[8].labels.tolist() == [reader.source[i]["label"] for i in range(200)]
    np.testing.assert_array_equal(found[8].labels, found[1].labels)
    np.testing.assert_allclose(found[8].features, found[1].features, atol=1e-5)
    with reader.batches(3, 4) as batches:  # the last 8 images and padding
        images = jax.device_get(next(batches)["image"])
    seen = model.apply({"params": params}, batch_lib.to_model_input(images))
    np.testing.assert_allclose(found[8].features[192:], seen[:8], atol=1e-4)


def test_preprocessing_is_that_of_the_protocol(trained):
    for side, larger in ((32, 37), (224, 256), (448, 512)):
        card = dataclasses.replace(trained.card, image_size=(side, side))
        model = trained.model.clone(patch_size=side // 4)
        few = few_shot(dataclasses.replace(trained, card=card, model=model))
        for reader in few.readers:
            resize, crop = reader.rows.transform.transforms
            assert resize.size == (larger, larger) and crop.size == (side, side)


@pytest.mark.parametrize(
    "entry, message",
    [
        ({"rule": "rankd"}, "rule 'rankd'. Did you mean 'ranked'"),
        ({"shots": (0,)}, "shots=\\(0,\\): expected"),
        ({"shots": ()}, "shots=\\(\\): expected"),
        ({"datasets": (("digits", "train"),)}, "expected \\(name, training split, test split\\)"),
        ({"datasets": (DIGITS, DIGITS)}, "has 'digits' twice"),
        ({"datasets": (("digits", "train", "train"),)}, "learn from train and be measured on it"),
        (
            {"datasets": (("digits", "train[:60]", "train[50:90]"),)},
            "10 of the 40 images of digits",
        ),
        ({"datasets": (("jft", "full[:9]", "full[9:]"),)}, "jft has several labels per image"),
        ({"datasets": (("imagenet2012", "train[:10]", "test"),)}, "Unknown split 'test'"),
        ({"datasets": (("dtd", "train", "test"),)}, "dataset 'dtd' is not prepared"),
        ({"datasets": (("dtd", "train", "test"),), "optional": True}, "none of its datasets"),
        ({"batch_size": 60}, "not divisible by the 8 devices"),
    ],
)
def test_what_is_refused(trained, entry, message):
    with pytest.raises(errors.BadInput, match=message):
        few_shot(trained, **entry)


def test_images_of_both_splits_of_a_folder_are_refused(trained, image_folder):
    folder = f"folder:{image_folder}"
    with pytest.raises(errors.BadInput, match="expected two splits without common images"):
        few_shot(trained, datasets=((folder, "train[:60%]", "train[50%:]"),))


def nearest(trained, **entry):
    config = small(words="knn,Mixer-S/16,32")
    config.evaluators.knn.update({"datasets": (DIGITS,)} | entry)
    return few_shot_of(config, trained)


def test_nearest_neighbours_of_the_same_features(trained):
    found = nearest(trained, neighbors=(1, 15)).measure(trained.params)
    few = few_shot(trained)
    splits = []
    for reader in few.readers:
        with reader.batches() as batches:
            splits.append(features.extract(few.update, trained.params, batches))
    (x, labels), (test, truth) = splits
    for k in (1, 15):
        by_distance = lambda distance: np.exp((1 - distance) / 0.07)
        theirs = KNeighborsClassifier(k, weights=by_distance, metric="cosine").fit(x, labels)
        assert found[f"digits/{k}nn"] == pytest.approx(theirs.score(test, truth))


@pytest.mark.parametrize(
    "entry, message",
    [
        ({"neighbors": ()}, "neighbors=\\(\\): expected"),
        ({"neighbors": (10, 201)}, "digits train\\[:200\\] has only 200 examples"),
        ({"temperature": 0.0}, "temperature=0.0: expected more than 0"),
        (
            {"datasets": (("digits", "train[:60]", "train[50:90]"),)},
            "10 of the 40 images of digits",
        ),
        ({"datasets": (("jft", "full[:9]", "full[9:]"),)}, "type knn is for one .*jft has several"),
    ],
)
def test_neighbours_that_are_refused(trained, entry, message):
    with pytest.raises(errors.BadInput, match=message):
        nearest(trained, **entry)


def test_a_model_that_needs_its_head_is_refused(trained):
    class Linear(nn.Module):
        num_classes: int

        @nn.compact
        def __call__(self, images, train=False):
            return nn.Dense(self.num_classes)(images.reshape(len(images), -1))

    with pytest.raises(errors.BadInput, match="Linear with num_classes=0.* fails"):
        few_shot(dataclasses.replace(trained, model=Linear(10)))


def test_a_recipe_without_a_few_shot_evaluator_is_refused(trained):
    with pytest.raises(errors.BadInput, match="use --config=configs/fewshot.py"):
        few_shot_of(small(quickstart, "digits,32"), trained)


def test_optional_data_are_left_out_and_others_are_not(trained, capsys):
    few = few_shot(trained, datasets=(("dtd", "train", "test"), DIGITS), optional=True)
    assert list(few.datasets) == ["digits"]
    assert "warning: dtd of config.evaluators.fewshot is left out" in capsys.readouterr().out
    config = small(quickstart, "digits,32")
    config.evaluators.test.dataset = "imagenet_v2"
    with pytest.raises(errors.BadInput, match="'imagenet_v2' is not prepared"):
        evaluations_of(config, trained)
    config.evaluators.test.optional = True
    with pytest.raises(errors.BadInput, match="nothing to evaluate on"):
        evaluations_of(config, trained)
    config.evaluators.few = common.fewshot(config, (DIGITS,), "1 epochs")
    assert [evaluation.name for evaluation in evaluations_of(config, trained)] == ["few"]


def test_real_is_measured_if_its_file_exists(data_dir, tmp_path, capsys):
    config = small(imagenet)
    config.run, config.input.split = "evaluate", "train"
    config.evaluators.train.split = config.evaluators.minival.split = "train"
    trained = load_trained(config)
    *_, real, _, _ = evaluations_of(config, trained)
    assert real.name == "real"
    parts = [jax.device_get(real.update(trained.params, b)) for b in real.reader.batches()]
    assert sum(int(part.top1.count) for part in parts) == 12  # of the stand-in's 16 images
    config.evaluators.real.dataset = f"real:{tmp_path}/real.json"
    names = [evaluation.name for evaluation in evaluations_of(config, trained)]
    assert names == ["minival", "train", "val"]
    assert "warning: config.evaluators.real is left out" in capsys.readouterr().out


@pytest.mark.parametrize("on_bad", ["error", "skip"])
def test_nothing_but_skipped_images_is_no_measurement(data_dir, tmp_path, on_bad):
    config = small()
    config.evaluators.fewshot.update(datasets=(DIGITS,), shots=(100,))
    config.input.on_bad = on_bad
    with pytest.raises(errors.Failure, match="nothing could be measured"):
        fewshot_run.run(config, str(tmp_path / "few"), "fewshot")
    assert not (tmp_path / "few" / "results.json").exists()


@pytest.mark.parametrize("kind", ["classification", "fewshot", "knn"])
def test_a_split_without_a_readable_image_is_no_measurement(image_folder, tmp_path, kind):
    for file in (image_folder / "test").rglob("*.png"):
        file.write_bytes(file.read_bytes()[:60])
    config = small(quickstart, "Mixer-S/16,digits,32")
    config.run, config.dataset, config.input.on_bad = "evaluate", f"folder:{image_folder}", "skip"
    splits = ((config.dataset, "train", "test"),)
    if kind != "classification":
        config.evaluators.test = getattr(common, kind)(config, splits, "")
        config.evaluators.test.batch_size = 64
    trained = load_trained(config)
    (evaluation,) = evaluations_of(config, trained)
    with pytest.raises(errors.Failure, match="config.evaluators.test: none of the 12 .* can be"):
        evaluation.measure(trained.params)
    with pytest.raises(errors.Failure, match="none of the 12 images"):
        evaluate.run(config, str(tmp_path / "evaluate"), "")
    assert not (tmp_path / "evaluate" / "results.json").exists()


@pytest.mark.parametrize(
    ("name", "kind", "reason"),
    [
        ("test_ema", "classification", "a name that does not end in _ema"),
        ("training", "classification", "the images trained on are recorded by this name"),
        ("train", "multilabel", "the training itself logs train/loss"),
    ],
)
def test_no_two_numbers_of_a_training_have_one_name(data_dir, name, kind, reason):
    config = small(quickstart, "digits,32")
    config.init_from = ""
    config.evaluators[name] = common.evaluator(config, "test", "resize", "2 steps", kind)
    with pytest.raises(errors.BadInput, match=f"config.evaluators.{name}: .*{reason}"):
        build_training(config)
