"""Unreadable examples and the input benchmark, as a user sees them."""

import json

import numpy as np
import pytest
from PIL import Image
from runs_command import run

from configs import folder
from mixer import errors
from mixer.runs import evaluate, train
from mixer.runs.training import build_training

SMALL = (
    "--config.batch_size=8",
    "--config.total=6 steps",
    "--config.schedule.warmup=1 steps",
    "--config.model.num_blocks=1",
    "--config.runtime.log_every=3 steps",
    "--config.evaluators.test.every=6 steps",
    "--config.evaluators.test.batch_size=8",
)


@pytest.mark.slow
def test_unreadable_examples_end_the_run_or_are_counted(image_folder, data_dir, tmp_path):
    """Two of 35 training images and one of 12 test images are empty files."""
    for file in ("train/cat/0.png", "train/dog/1.png"):
        (image_folder / file).write_bytes(b"")
    config = f"configs/folder.py:folder:{image_folder},16"
    code, _, err = run(data_dir, config, tmp_path / "stops", *SMALL)
    assert code == 1 and "not a readable image" in err and "file train/" in err
    (image_folder / "test" / "eel" / "2.png").write_bytes(b"")  # alone it would end it earlier
    code, _, err = run(data_dir, config, tmp_path / "goes", *SMALL, "--config.input.on_bad=skip")
    assert code == 0, err
    results = json.loads((tmp_path / "goes" / "results.json").read_text())
    # 48 examples are a pass over all 35 and 13 more.
    assert 2 <= results["skipped_examples"] <= 4
    assert results["metrics"]["test/skipped"] == 1 and results["fast_decode"] is False
    lines = [json.loads(line) for line in (tmp_path / "goes" / "metrics.jsonl").open()]
    counts = [line["skipped_examples"] for line in lines if "skipped_examples" in line]
    assert counts == sorted(counts) and counts[-1] == results["skipped_examples"]


GRAIN = ("grain_threads", "grain_processes")


@pytest.mark.slow
def test_input_benchmark(image_folder, data_dir, tmp_path):
    code, out, err = run(
        data_dir,
        f"configs/folder.py:folder:{image_folder},16",
        tmp_path / "out",
        "--config.run=input_benchmark",
        "--config.benchmark.images=64",
        "--config.benchmark.rounds=1",
        "--config.benchmark.grain=True",
    )
    assert code == 0, err
    metrics = json.loads((tmp_path / "out" / "results.json").read_text())["metrics"]
    for stage in ("read", "decode", "augment", "batch", "transfer"):
        assert metrics[f"{stage}_microseconds"] > 0
    assert metrics["threads_1_images_per_second"] > 0 and metrics["cores_needed"] > 0
    assert "processes_1" in out and "to feed 500 images/s to each of 1 devices" in out
    rates = {name: value for name, value in metrics.items() if name.endswith("_per_second")}
    of_grain = {name: rates.pop(f"{name}_images_per_second") for name in GRAIN}
    assert all(f"\n  {name} " in out for name in GRAIN)
    assert metrics["tf_data_images_per_second"] is rates.pop("tf_data_images_per_second") is None
    times = max(rates.values()) / max(of_grain.values())
    assert f" is {times:.2f} times as fast as the better of Grain's\n" in out


@pytest.mark.parametrize("key", ["input.shuffle=blocks(size=4, window=2)", "input.on_bad=skip"])
def test_grain_is_not_compared_with_what_it_does_not_do(key, said, data_dir, tmp_path):
    asked = ("--config.run=input_benchmark", "--config.benchmark.grain=True", f"--config.{key}")
    code, _, err = said("--config=quickstart:smoke", f"--workdir={tmp_path / 'run'}", *asked)
    name = key.partition("=")[0]
    assert code == 2 and f"grain=True needs --config.{name}=" in err
    assert not (tmp_path / "run").exists()


def test_files_that_do_not_exist_are_named_before_anything_is_written(one_device, tmp_path):
    """Also those that a training would reach in hours; with `skip` they do not count."""
    for name in "abcdef":
        Image.new("RGB", (8, 8), "red").save(tmp_path / f"{name}.png")
    (tmp_path / "d.png").unlink()
    rows = "a.png,x,train\nb.png,y,train\nd.png,x,train\nlost/g.png,y,train\n"
    table = f"path,label,split\n{rows}e.png,x,test\nf.png,y,test\n"
    (tmp_path / "list.csv").write_text(table)

    def config_of(run="train"):
        config = folder.get_config(f"manifest:{tmp_path}/list.csv,Mixer-S/16,8", run)
        config.model.update(patch_size=8, num_blocks=1, hidden_dim=8)
        config.model.update(tokens_mlp_dim=4, channels_mlp_dim=8)
        config.evaluators.test.batch_size = 4
        return config

    config = config_of()
    config.batch_size, config.schedule.warmup = 4, "1 steps"
    message = f"train: 2 files do not exist: {tmp_path}/d.png, {tmp_path}/lost/g.png. Mend"
    with pytest.raises(errors.BadInput, match=message):
        train.run(config, str(tmp_path / "run"), "folder")
    config.input.on_bad = "skip"
    assert build_training(config).unreadable() is None

    config = config_of("evaluate")
    config.init_from, config.evaluators.test.split = "random", "train"
    with pytest.raises(errors.BadInput, match="config.evaluators.test: .*train: 2 files do not"):
        evaluate.run(config, str(tmp_path / "run"), "folder")
    assert not (tmp_path / "run").exists()


def test_evaluate_reads_its_first_batch_before_anything_is_written(one_device, tmp_path):
    images = np.zeros((4, 8, 8, 5), np.uint8)
    np.savez(tmp_path / "m.npz", test_images=images, test_labels=np.arange(4) % 2)
    config = folder.get_config(f"arrays:{tmp_path}/m.npz,Mixer-S/16,8", "evaluate")
    config.model.update(patch_size=8, num_blocks=1, hidden_dim=8)
    config.model.update(tokens_mlp_dim=4, channels_mlp_dim=8)
    config.init_from, config.evaluators.test.batch_size = "random", 4
    with pytest.raises(errors.BadInput, match=r"\[8, 8, 5\]: expected uint8 \[H, W, 3\]"):
        evaluate.run(config, str(tmp_path / "run"), "folder")
    assert not (tmp_path / "run").exists()
