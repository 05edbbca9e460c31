"""Averages of whole runs: convert with config.soup."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

import mixer
from configs import quickstart
from mixer import runs
from mixer.checkpoint.model_card import ModelCard
from mixer.runs import soup
from mixer.weights import formats

pytestmark = pytest.mark.usefixtures("one_device")


def config(run, **changes):
    made = quickstart.get_config("smoke", run)
    made.update(total="4 steps", **changes)
    made.schedule.warmup = "1 steps"
    made.evaluators.test.every = "4 steps"
    return made


def start(made, workdir):
    runs.load(made.run).run(made, str(workdir), "test")
    return json.loads((workdir / "results.json").read_text())


@pytest.fixture(scope="module")
def folder(data_dir, tmp_path_factory):
    """Three workdirs: one training after 4, 3 and 2 of its steps."""
    folder = tmp_path_factory.mktemp("soup")
    made = config("train")
    made.runtime.update(checkpoint_every="1 steps", keep_checkpoints=3)
    start(made, folder / "run-a")
    for name, last in (("run-b", 3), ("run-c", 2)):
        shutil.copytree(folder / "run-a", folder / name)
        for step in range(last + 1, 5):
            shutil.rmtree(folder / name / "checkpoints" / str(step))
    return folder


def test_a_uniform_soup(folder, tmp_path, capsys):
    target = f"{tmp_path}/soup.npz"
    pattern = f"{folder}/run-*"
    made = config("convert", init_from=pattern, convert_to=target, soup="uniform")
    (folder / "run-eval").mkdir()  # of an evaluation, which has no checkpoints
    results = start(made, tmp_path / "run")
    out = capsys.readouterr().out
    assert f"{pattern}: passes over {folder}/run-eval, without checkpoints" in out
    assert "did not start from the same pretrained weights" in out
    singles = []
    for name in "abc":
        single = f"{tmp_path}/{name}.npz"
        own = config("convert", init_from=f"{folder}/run-{name}", convert_to=single)
        start(own, tmp_path / name)
        singles.append(formats.read(single))
    for name, array in formats.read(target).items():
        expected = np.mean(np.stack([of[name] for of in singles]), axis=0, dtype=np.float64)
        np.testing.assert_array_equal(array, expected.astype(np.float32))
    assert results["upstream"]["path"] == ",".join(f"{folder}/run-{name}" for name in "abc")
    assert results["step"] is None and results["upstream"]["model"] == "Mixer-S/16"


def test_a_greedy_soup_has_the_score_that_it_reports(folder, tmp_path, capsys):
    """By a metric that is better when lower; tests/weights/test_soup.py has both directions."""
    target = f"{tmp_path}/soup.npz"
    source = f"{folder}/run-c, {folder}/run-a"
    made = config("convert", init_from=source, convert_to=target, soup="greedy", best="test/nll")
    metrics = start(made, tmp_path / "run")["metrics"]
    assert metrics["test/nll"] <= metrics["test/nll_of_best_run"]
    evaluated = start(config("evaluate", init_from=target), tmp_path / "evaluated")["metrics"]
    assert evaluated["test/nll"] == pytest.approx(metrics["test/nll"])
    assert f"soup of {folder}/run-" in capsys.readouterr().out


def test_what_cannot_be_averaged_is_refused(folder, tmp_path):
    both = f"{folder}/run-a,{folder}/run-b"
    for changes, message in (
        ({"soup": "mean"}, "unknown config.soup 'mean'"),
        ({"init_from": f"{folder}/run-a"}, "names 1 workdirs: config.soup needs two or more"),
        ({"init_from": f"{both},{folder}/none[1]"}, r"no workdir .* matches '.*/none\[1\]'"),
        ({"init_from": f"{folder}/run-a,{folder}/run-a/"}, "names 1 workdirs"),
        ({"init_from": f"{both},Mixer-Ti/4:cifar10"}, "Mixer-Ti/4:cifar10 is no workdir"),
        ({"soup": "greedy"}, "config.best='': config.soup=greedy needs a metric .*in use: test"),
        ({"soup": "greedy", "best": "val/top1"}, "those in use: test"),
        (
            {"soup": "greedy", "best": "test/nl"},
            "unknown metric .*'test/nl'. Did you mean 'test/nll'",
        ),
    ):
        given = {"init_from": both, "soup": "uniform", "convert_to": f"{tmp_path}/x.npz"}
        with pytest.raises(mixer.BadInput, match=message):
            start(config("convert", **given | changes), tmp_path / "bad")
    assert not list(tmp_path.iterdir())


def test_runs_may_differ_in_what_counts_in_training_alone():
    def run(**fields):
        model = {"name": "Mixer-S/16", "gelu": "erf", "stochastic_depth": 0.0} | fields
        return SimpleNamespace(card=ModelCard(model, (8, 8), "resize", ("a",), "x"))

    soup._check_alike("a", run(), "b", run(stochastic_depth=0.1, dtype="bfloat16"))
    with pytest.raises(mixer.BadInput, match="model.gelu of a is 'erf', of b 'tanh'"):
        soup._check_alike("a", run(), "b", run(stochastic_depth=0.1, gelu="tanh"))
