"""A run in a bucket, interrupted in every way, ends like one that was never stopped."""

import json
import os
import re
import signal

import numpy as np
import pytest
from runs_command import start
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from configs import quickstart
from mixer.errors import BadInput, Failure
from mixer.hosts.holding import hold
from mixer.runs import train
from mixer.runs.workdir import begin, check_there, open_workdir
from mixer.training.console import Console
from mixer.training.metrics_log import MetricsLog
from mixer.weights.stored import read_stored

CHANGES = {
    "total": "20 steps",
    "evaluators.test.every": "8 steps",
    "runtime.log_every": "4 steps",
    "runtime.checkpoint_every": "4 steps",
    "runtime.keep_checkpoints": 3,
}
# These depend on the machine, not on the run.
MEASURED = ("images_per", "data_wait", "device_days", "seconds/", "tflops", "mfu")


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def by_tag(lines):
    found = {}
    for line in lines:
        for tag in line.keys() - {"step"}:
            found.setdefault(tag, []).append((line["step"], np.float32(line[tag])))
    return found


def scalars(workdir, copy):
    """What TensorBoard shows."""
    copy.mkdir()
    for path in workdir.glob("events.out.tfevents.*"):
        (copy / path.name).write_bytes(path.read_bytes())
    events = EventAccumulator(str(copy))
    events.Reload()
    tags = events.Tags()["scalars"]
    return {tag: [(e.step, np.float32(e.value)) for e in events.Scalars(tag)] for tag in tags}


def reproducible(by_tag):
    return {tag: values for tag, values in by_tag.items() if not tag.startswith(MEASURED)}


@pytest.mark.long
def test_a_run_stopped_damaged_and_killed_ends_like_an_uninterrupted_one(
    bucket, data_dir, tmp_path, monkeypatch, capfd
):
    config = quickstart.get_config("smoke")
    config.update_from_flattened_dict(CHANGES)
    workdir, alone = bucket / "runs" / "one", tmp_path / "alone"
    train.run(config, str(alone), "quickstart:smoke")

    # SIGTERM when step 8 is done and its evaluation is not.
    line = Console.line

    def stop_at_eight(console, text):
        line(console, text)
        if text.startswith("step 8/20"):
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as at_eight:
        at_eight.setattr(Console, "line", stop_at_eight)
        train.run(config, str(workdir), "quickstart:smoke")
    assert "stopped by SIGTERM: saved step 8 of 20" in capfd.readouterr().out
    assert [line["step"] for line in lines(workdir)] == [4, 8]

    (array, *_) = (workdir / "checkpoints" / "8" / "params" / "d").iterdir()
    array.write_bytes(array.read_bytes()[:-20])

    flags = [f"--config.{key}={value}" for key, value in CHANGES.items()]
    same = {"XLA_FLAGS": os.environ["XLA_FLAGS"]}
    process = start(data_dir, "configs/quickstart.py:smoke", workdir, *flags, **same)
    said = []
    for text in process.stdout:
        said.append(text)
        if text.startswith("step 16/20"):
            process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL, said
    assert any("damaged checkpoint" in text for text in said)
    assert any(f"moved to {workdir.parent}/one/damaged/8" in text for text in said)
    assert any("resuming from step 4 of 20" in text for text in said)
    assert not (workdir / "results.json").exists()

    train.run(config, str(workdir), "quickstart:smoke")
    restored = re.search(r"resuming from step (\d+) of 20", capfd.readouterr().out)
    assert int(restored[1]) in (8, 12, 16)  # as fast as the kill was

    results, expected = (json.loads((w / "results.json").read_text()) for w in (workdir, alone))
    assert results["metrics"] == expected["metrics"] and results["step"] == 20
    assert scalars(workdir, tmp_path / "far") == by_tag(lines(workdir))
    assert scalars(alone, tmp_path / "near") == by_tag(lines(alone))
    assert reproducible(by_tag(lines(workdir))) == reproducible(by_tag(lines(alone)))
    ours, theirs = (read_stored(str(w), None).arrays for w in (workdir, alone))
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)


def test_of_two_runs_in_a_bucket_the_later_one_continues(bucket):
    with hold(bucket / "run") as first_may_save:
        first_may_save()
        with hold(bucket / "run") as second_may_save:
            second_may_save()
            with pytest.raises(Failure, match="started again, on .*; that one continues, this"):
                first_may_save()
            second_may_save()


def test_the_earlier_run_does_not_overwrite_the_later_ones_metrics(bucket, tmp_path):
    """Even if it is suspended while the later run ends."""
    workdir, path = bucket / "run", bucket / "run" / "metrics.jsonl"
    with (
        pytest.raises(Failure, match="started again"),
        hold(workdir) as first_may,
        MetricsLog(workdir, 0, 0, first_may) as first,
    ):
        first.write(1, {"loss": 1.0})
        first.flush()
        with hold(workdir) as second_may, MetricsLog(workdir, 1, 1, second_may) as second:
            second.write(2, {"loss": 0.5})
        ended = path.read_bytes(), scalars(workdir, tmp_path / "ended")
        first._file._begun -= 60
        first.write(2, {"loss": 0.25})  # which would be uploaded by itself
        first.flush()
    assert (path.read_bytes(), scalars(workdir, tmp_path / "after")) == ended
    assert [line["step"] for line in lines(workdir)] == [1, 2]


@pytest.mark.parametrize(
    "url", ["gs:/bucket/run", "gs:///run", "gs://", "s3://b/run", "file:///run"]
)
def test_a_workdir_is_a_folder_or_in_a_google_bucket(url):
    with pytest.raises(BadInput, match=f"--workdir={url}: expected a folder or gs://BUCKET/FOLDER"):
        open_workdir(url)


def test_a_missing_bucket_is_reported(bucket, data_dir):
    config = quickstart.get_config("smoke")
    path = open_workdir("gs://no-such-bucket/run")
    with pytest.raises(BadInput, match="--workdir=gs://no-such-bucket/run cannot be written: "):
        begin(path, config)


def test_a_removed_workdir_in_a_bucket_is_noticed(bucket):
    config, path = quickstart.get_config("smoke"), bucket / "run"
    begin(path, config)
    check_there(path)
    (path / "config.json").unlink()
    with pytest.raises(Failure, match=f"^{path}/config.json is gone: "):
        check_there(path)
