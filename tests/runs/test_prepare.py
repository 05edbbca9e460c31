"""config.run=prepare as a user starts it: killed and resumed, refused, repeated."""

import json
import signal
import time

import numpy as np
import pytest
from PIL import Image
from runs_command import run, start

CONFIG = "configs/folder.py"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """200 images of noise, 24 MB."""
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for i in range(200):
        folder = root / ("even", "odd")[i % 2]
        folder.mkdir(exist_ok=True)
        pixels = rng.integers(0, 256, (200, 200, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png", compress_level=0)
    return root


def flags(photos, out, *more):
    asked = {
        "run": "prepare",
        "prepare.source": f"folder:{photos}",
        "prepare.name": "photos",
        "prepare.shard_size": 1,
        "prepare.processes": 2,
        "prepare.dedup_against": "digits:test",  # decoding every image leaves time for the kill
        "runtime.data_dir": out,
    }
    return [f"--config.{key}={value}" for key, value in asked.items()] + list(more)


@pytest.mark.long
def test_killed_or_stopped_it_resumes_to_the_same_dataset(photos, data_dir, tmp_path):
    def dataset(name):
        target = tmp_path / name / "photos" / "1.0.0"
        return {path.name: path.read_bytes() for path in target.iterdir()}

    code, _, err = run(data_dir, CONFIG, tmp_path / "0", *flags(photos, tmp_path / "whole"))
    assert code == 0, err

    out, workdir = tmp_path / "killed", tmp_path / "1"
    for number in (signal.SIGKILL, signal.SIGTERM):
        # The number of processes may differ: it does not affect the result.
        process = start(
            data_dir, CONFIG, workdir, *flags(photos, out, "--config.prepare.processes=3")
        )
        done = out / "photos" / "incomplete.1.0.0" / "done"
        before = len(list(done.glob("*")))
        while len(list(done.glob("*"))) <= before:
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        process.send_signal(number)
        printed, err = process.communicate(timeout=60)
        assert not (workdir / "results.json").exists()
        assert not (out / "photos" / "1.0.0").exists()
    assert process.returncode == 0 and "shards are written; the same command" in printed, err

    code, printed, err = run(data_dir, CONFIG, workdir, *flags(photos, out))
    assert code == 0 and "resuming" in printed, err
    assert dataset("killed") == dataset("whole")
    results = json.loads((workdir / "results.json").read_text())
    assert results["dataset"] == "photos" and results["device_kind"] is None
    metrics = results["metrics"]
    assert metrics["train/examples"] == 200 and metrics["train/shards"] == 24
    assert metrics["dataset/classes"] == 2 and metrics["train/removed"] == 0
    assert (workdir / "removed.jsonl").read_text() == ""

    # The same into another workdir: the dataset is there, only its results are missing.
    code, printed, _ = run(data_dir, CONFIG, tmp_path / "2", *flags(photos, out))
    assert code == 0 and "nothing to prepare" in printed
    again = json.loads((tmp_path / "2" / "results.json").read_text())
    assert again["metrics"] == metrics


BAD = [
    ("--config.prepare.source=", "unknown config.prepare.source ''. Known: arrays:PATH"),
    ("--config.prepare.source=tar:/nowhere.tar", "'/nowhere.tar': no such file"),
    ("--config.prepare.name=cifar10", "not one of TFDS's"),
    ("--config.prepare.name=", "config.prepare.name='folder'"),
    ("--config.prepare.name=mine:2", "expected a version like 1.0.0"),
    ("--config.prepare.shard_size=0", "expected 1 or more"),
    ("--config.runtime.data_dir=gs://bucket/data", "datasets are prepared in a folder"),
    ("--config.prepare.dedup_against=cifar10", "names no split"),
    ("--config.prepare.dedup_against=digits:tset", "split 'tset' of digits"),
]


@pytest.mark.slow
def test_bad_input_is_one_line_exit_two_and_nothing_written(photos, data_dir, tmp_path, said):
    for wrong, message in BAD:
        out, workdir = tmp_path / "out", tmp_path / "run"
        config = f"{CONFIG}:folder:{photos}"
        config_and_workdir = f"--config={config}", f"--workdir={workdir}"
        code, _, err = said(*config_and_workdir, *flags(photos, out, wrong))
        assert code == 2, (wrong, err)
        assert err.startswith("error: ") and message in err, (wrong, err)
        assert len(err.splitlines()) == 1, (wrong, err)
        # The digits must exist to compare with them.
        assert not workdir.exists() and not (out / "photos").exists(), wrong
