"""The transfer experiment, with its runs replaced by known numbers."""

import json
import subprocess

import pytest

from configs import fewshot, folder
from mixer.runs.training import build_training
from tools import cifar_transfer

RECIPES = {"folder.py": folder, "fewshot.py": fewshot}


def config_of(command):
    """The config that main.py makes from a command; unknown keys and wrong types are errors."""
    recipe, _, words = command[2].removeprefix("--config=configs/").partition(":")
    config = RECIPES[recipe].get_config(words)
    for flag in command[4:]:
        key, _, text = flag.removeprefix("--config.").partition("=")
        *parents, leaf = key.split(".")
        entry = config
        for parent in parents:
            entry = entry[parent]
        entry[leaf] = type(entry[leaf])(text)
    return config


@pytest.fixture
def images(image_folder):
    """A folder of images with four classes, so that each half has two."""
    for split in ("train", "test"):
        (image_folder / split / "fox").symlink_to(image_folder / split / "cat")
    return image_folder


def test_the_runs_build_and_fill_the_table(images, tmp_path, monkeypatch):
    commands = []

    def pretend(command, cwd):
        commands.append(command)
        workdir = tmp_path / "out" / command[3].rpartition("/")[2]
        config = config_of(command)
        scratch = workdir.name.startswith("scratch")
        if workdir.name == "scratch_64_0":
            training = build_training(config)
            assert training.total == 150 and training.card.classes == ("dog", "fox")
        metrics = {"test/top1": (0.5 if scratch else 0.7) + 0.01 * config.seed}
        metrics |= {f"fewshot/{config.dataset}/{k}shot": k / 100 for k in cifar_transfer.SHOTS}
        workdir.mkdir()
        results = {"metrics": metrics, "seconds": 30}
        (workdir / "results.json").write_text(json.dumps(results))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", pretend)
    out = tmp_path / "out"
    halves = cifar_transfer.halves(images, out)
    assert [sorted(p.name for p in (half / "train").iterdir()) for half in halves] == [
        ["cat", "eel"],
        ["dog", "fox"],
    ]
    lines = cifar_transfer.transfer(*halves, out)
    assert "| scratch, 64 | 51.0 ± 1.0 | 30 |" in lines
    assert "| fine-tuned, 64, block-diagonal | 71.0 ± 1.0 | 30 |" in lines
    assert "| pretrained | 1.0 | 5.0 | 10.0 | 25.0 |" in lines
    assert len(commands) == 1 + 6 * 3 + 2
    # Again: nothing is run, and the tables are the same.
    assert cifar_transfer.transfer(*cifar_transfer.halves(images, out), out) == lines
    assert len(commands) == 21


def test_a_stopped_run_ends_the_experiment(tmp_path, monkeypatch):
    monkeypatch.setattr(
        subprocess, "run", lambda command, cwd: subprocess.CompletedProcess(command, 0)
    )
    with pytest.raises(SystemExit, match="was stopped: the same command resumes it"):
        cifar_transfer.results("folder.py", tmp_path, {})
