"""A linear probe: its head is scikit-learn's, and its workdir that of any training."""

import json

import jax
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import mixer
from configs import probe as recipe
from mixer.errors import BadInput
from mixer.runs import keys, recorded, sweep, train
from mixer.runs.trained import load_trained
from mixer.signals import StopSignal
from mixer.training import step

pytestmark = pytest.mark.usefixtures("one_device")

SMALL = {"num_blocks": 1, "hidden_dim": 16, "tokens_mlp_dim": 8, "channels_mlp_dim": 16}


def config_of(**given):
    config = recipe.get_config("smoke,Mixer-S/32,32")
    config.model.update(SMALL | {"patch_size": 8})
    config.input.split, config.evaluators.test.split = "train[:300]", "test"
    config.evaluators.test.batch_size = 120
    config.probe.l2 = (10.0,)
    config.update_from_flattened_dict(given)
    config = keys.track(config, {f"--config.{key}": (key,) for key in given})
    assert config.run == "train"  # as the command reads it
    return config


def session(config, path):
    with StopSignal() as stop:
        train.train(config, str(path), "probe", stop, {})


@pytest.fixture(scope="module")
def probed(data_dir, tmp_path_factory):
    path = tmp_path_factory.mktemp("probe") / "run"
    session(config_of(**{"seed": 3}), path)
    return path


def pixels(split, card):
    digits = mixer.data.sources.open_source("digits", split, None)
    images = [digits[i]["image"] for i in range(len(digits))]
    return mixer.preprocess(images, card), np.array(
        [digits[i]["label"] for i in range(len(digits))]
    )


def test_the_trunk_is_as_it_was_and_the_head_is_scikit_learn_s(probed):
    model, params, card = mixer.load(probed)
    initial = jax.jit(lambda: step.init_params(model, (32, 32), 3))()
    for name in initial.keys() - {"head"}:
        jax.tree.map(np.testing.assert_array_equal, initial[name], params[name])
    (x, y), (test_x, test_y) = pixels("train[:300]", card), pixels("test", card)
    features = lambda images: model.clone(num_classes=0).apply({"params": params}, images)
    theirs = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, tol=1e-6, max_iter=9999))
    theirs.fit(np.asarray(features(x), np.float64), y)
    ours = np.asarray(model.apply({"params": params}, test_x)).argmax(1)
    assert (ours == theirs.predict(np.asarray(features(test_x)))).mean() > 0.99
    results = json.loads((probed / "results.json").read_text())
    assert results["metrics"]["test/top1"] == pytest.approx((ours == test_y).mean())
    assert results["metrics"]["test/top1"] > 0.5 and results["run"] == "train"
    assert results["step"] == card.step == 1
    assert results["metrics"]["probe/l2"] == 10 and results["metrics"]["probe/iterations"] > 1


def test_the_workdir_is_taken_as_any_other(probed, data_dir, capsys):
    config = recipe.get_config("smoke,Mixer-S/32,32", "evaluate")
    config.init_from = str(probed)
    assert load_trained(config).step == json.loads((probed / "results.json").read_text())["step"]
    session(config_of(**{"seed": 3}), probed)
    assert "complete: " in capsys.readouterr().out
    config.run = "replay"
    with pytest.raises(BadInput, match="of a linear probe, which has no steps to replay"):
        recorded.training_config(config, probed)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("input.transform", "random_crop", "'random_crop' draws at random.*'resize_small"),
        ("input.transform", "resize|flip_lr", "draws at random"),
        ("init_from", "", "config.init_from is empty"),
        ("probe.l2", (1.0, -1.0), "probe.l2=-1.0: expected 0 <= "),
        ("probe.l2", (1.0, 1.0), "distinct"),
        ("evaluators.test.every", "3 steps", "a probe measures once"),
        ("schedule.base", 0.1, "config.schedule.base would not be used"),
        ("optimizer.weight_decay", 0.1, "config.optimizer.weight_decay would not be used"),
        ("total", "3 steps", "config.total would not be used"),
        ("mixup", 0.1, "config.mixup would not be used"),
        ("runtime.workers", 2, "config.runtime.workers would not be used"),
        ("input.mixture", (("digits", "train[300:]", 0.5),), "there are no shares"),
        ("dataset", "jft", "one label per image, but jft has several labels"),
    ],
)
def test_what_a_probe_has_no_use_for_is_refused(key, value, message, data_dir, tmp_path):
    more = {"input.split": "full"} if value == "jft" else {}
    with pytest.raises(BadInput, match=message):
        session(config_of(**{key: value}, **more), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_stopped_probe_saves_nothing_and_begins_again(data_dir, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(StopSignal, "poll", lambda self: setattr(self, "received", "TEST") or True)
    session(config_of(), tmp_path / "run")
    assert "stopped by TEST: nothing is saved" in capsys.readouterr().out
    assert not (tmp_path / "run" / "results.json").exists()
    monkeypatch.undo()
    session(config_of(), tmp_path / "run")
    assert (tmp_path / "run" / "results.json").exists()


def test_a_sweep_of_probes_is_refused(data_dir):
    config = recipe.get_config("smoke,Mixer-S/32,32", "sweep")
    with pytest.raises(BadInput, match="a probe is one training"):
        sweep.build_sweep(config)
