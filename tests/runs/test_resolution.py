"""Weights at another resolution and in other files, through whole runs in this process."""

import json
import shutil

import jax
import numpy as np
import pytest

import mixer
from configs import quickstart
from mixer import runs
from mixer.runs.training import build_training
from mixer.weights import fitting, formats

pytestmark = pytest.mark.usefixtures("one_device")


def config(run, **changes):
    """Digits at 24 x 24 with patches of 4, two blocks."""
    made = quickstart.get_config("smoke", run)
    made.update(total="2 steps", **changes)
    made.schedule.warmup = "1 steps"
    made.evaluators.test.every = "2 steps"
    made.evaluators.test.batch_size = made.batch_size = 8
    return made


def start(made, workdir):
    runs.load(made.run).run(made, str(workdir), "test")
    return json.loads((workdir / "results.json").read_text())


def model(num_classes=10):
    fields = config("train").model.to_dict() | {"num_classes": num_classes}
    return mixer.create_model(fields.pop("name"), **fields)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file in the paper's layout: 12 x 12 pixels, 3 x 3 patches, a head for the digits."""
    rng = np.random.default_rng(0)
    shapes = fitting.shapes(model(), (12, 12))
    params = jax.tree.map(lambda s: rng.normal(0, 0.3, s.shape).astype(np.float32), shapes)
    path = tmp_path_factory.mktemp("weights") / "published.npz"
    mixer.save_pretrained(path, params, model())
    return path


@pytest.fixture(scope="module")
def finetuned(weights, data_dir, tmp_path_factory):
    """A run that started from them at twice the resolution."""
    workdir = tmp_path_factory.mktemp("finetuned") / "run"
    assert start(training_config(weights), workdir)["upstream"]["path"] == str(weights)
    return workdir


def training_config(weights):
    made = config("train", init_from=str(weights))
    made.schedule.base = made.schedule.end = 0.0  # so that the weights stay as loaded
    made.optimizer.weight_decay = 0.0
    return made


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_finetuning_at_twice_the_resolution(weights, finetuned):
    large = mixer.at_resolution(model(), 24, 12)
    assert large.tokens_mlp_dim == 4 * model().tokens_mlp_dim
    expected = mixer.load_pretrained(weights, model(), image_size=24)
    found = mixer.load_pretrained(finetuned, large)
    same(found, expected)
    same(mixer.load_pretrained(finetuned, large, image_size=24), expected)
    again = mixer.load_pretrained(finetuned, large, image_size=(24, 48))
    assert again["MixerBlock_1"]["token_mixing"]["Dense_1"]["bias"].shape == (72,)
    with pytest.raises(mixer.BadInput, match=r"was trained at \(24, 24\): leave it out"):
        mixer.load_pretrained(finetuned, large, image_size=48, pretrained_size=12)


def test_resuming_does_not_need_the_file(weights, finetuned, data_dir, tmp_path):
    copy = shutil.copytree(finetuned, tmp_path / "run")
    results = (copy / "results.json").rename(tmp_path / "before.json")
    moved = weights.rename(tmp_path / "moved.npz")
    try:
        again = start(training_config(weights), copy)
    finally:
        moved.rename(weights)
    assert again["params"] == json.loads(results.read_text())["params"]
    assert again["upstream"]["path"] == str(weights)


def test_evaluating_the_file_or_the_run_is_the_same(weights, finetuned, tmp_path):
    of_run = start(config("evaluate", init_from=str(finetuned)), tmp_path / "a")
    of_file = start(config("evaluate", init_from=str(weights)), tmp_path / "b")
    assert of_run["metrics"] == of_file["metrics"] and of_run["resolution"] == 24
    assert of_run["params"] == of_file["params"]
    resampled = config("evaluate", init_from=str(weights), resize_method="resample")
    assert start(resampled, tmp_path / "c")["params"] < of_file["params"]


def test_training_continues_at_a_third_size_by_resampling(finetuned, data_dir):
    made = config("train", init_from=str(finetuned), image_size=(28, 24))
    made.model.tokens_mlp_dim *= 4
    training = build_training(made)
    params, upstream = training.initial()
    assert upstream["resolution"] == 24 and training.card.model["tokens_mlp_dim"] == 128
    assert params["MixerBlock_0"]["token_mixing"]["Dense_0"]["kernel"].shape == (42, 128)
    needs = jax.eval_shape(training.update.init, None).params
    assert jax.tree.map(np.shape, params) == jax.tree.map(lambda leaf: leaf.shape, needs)


def test_convert_and_back(weights, finetuned, tmp_path):
    def convert(source, name, workdir=None):
        target = f"{tmp_path}/{name}"
        made = config("convert", init_from=str(source), convert_to=target)
        return target, start(made, tmp_path / (workdir or f"run-{name}"))

    torch, results = convert(weights, "w.safetensors")
    assert results["run"] == "convert" and results["resolution"] == 12
    assert len(results["upstream"]["sha256"]) == 64
    back, _ = convert(torch, "w.npz")
    before, after = formats.read(weights), formats.read(back)
    assert list(before) == list(after)
    same(after, before)
    of_run, results = convert(finetuned, "run.npz")
    assert results["step"] == 2 and results["resolution"] == 24
    large = mixer.at_resolution(model(), 24, 12)
    same(mixer.load_pretrained(of_run, large), mixer.load_pretrained(finetuned, large))

    for source, name, message in (
        (weights, "w.npz", "exists: remove it, or choose another"),
        (weights, "w.bin", "expected OUT.npz"),
        (weights, "hub/", "timm has no Mixer with patch_size, num_blocks, hidden_dim = "),
        (tmp_path / "none.npz", "x.npz", "No such file"),
        ("", "x.npz", "needs --config.init_from"),
    ):
        with pytest.raises(mixer.BadInput, match=message):
            convert(source, name, "bad")
        assert not (tmp_path / "bad").exists()
    with pytest.raises(mixer.BadInput, match="does not fit the model: not in the model: MixerBl"):
        made = config("convert", init_from=str(weights), convert_to=f"{tmp_path}/y.npz")
        made.model.num_blocks = 1
        start(made, tmp_path / "y")
    assert not (tmp_path / "y").exists() and not (tmp_path / "y.npz").exists()


def test_a_run_becomes_a_program(finetuned, tmp_path):
    """Which says what its user has to know: the run's classes and preprocessing."""
    pytest.importorskip("flatbuffers")
    target = tmp_path / "run.stablehlo"
    made = config("convert", init_from=str(finetuned), convert_to=str(target))
    assert start(made, tmp_path / "run")["metrics"]["logits_difference"] < 1e-5
    about = json.loads((tmp_path / "run.stablehlo.json").read_text())
    assert about["classes"] == list("0123456789") and about["input"]["shape"][1:3] == [24, 24]
    assert about["preprocessing"]["transform"] == "resize"
    assert target.stat().st_size > 0


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"resize_method": "bicubic"}, "unknown method 'bicubic'"),
        ({"resize_method": "block_diagonal", "image_size": (20, 24)}, "3 x 3 patches .* to 5 x 6"),
        ({"pretrained_size": (12,)}, "config.pretrained_size=.* expected a pair"),
        ({"pretrained_size": (8, 8)}, "a grid of 2 x 2 patches of 4, but .* for 9 patches"),
    ],
)
def test_bad_input_writes_nothing(changes, message, weights, data_dir, tmp_path):
    with pytest.raises(mixer.BadInput, match=message):
        start(config("train", init_from=str(weights), **changes), tmp_path / "out")
    assert not (tmp_path / "out").exists()
