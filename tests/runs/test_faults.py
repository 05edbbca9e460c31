"""Faults during a run: one line, exit code 1, and the last checkpoint is kept."""

import re
import resource
import shutil
import subprocess
import sys

import pytest
from runs_command import ROOT, run, start
from test_resume import wait_for

from configs import quickstart
from mixer.runs import train
from mixer.training.nonfinite import NonFinite


def saved(workdir):
    folder = workdir / "checkpoints"
    names = [p.name for p in folder.iterdir()] if folder.exists() else []
    return sorted(int(name) for name in names if name.isdigit())


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits another process")
def test_a_full_disk_then_a_truncated_dataset(data_dir, tmp_path):
    workdir, data = tmp_path / "run", tmp_path / "data"
    shutil.copytree(data_dir / "digits", data / "digits")
    recipe = "configs/quickstart.py:smoke"
    long = ("--config.total=5000 steps", "--config.evaluators.test.every=5000 steps")

    process = start(data, recipe, workdir, *long)
    wait_for(lambda: saved(workdir), process)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (100_000, 100_000))
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    last = err.strip().splitlines()[-1]
    assert last.startswith(f"error: a checkpoint in {workdir}/checkpoints could not be written")
    assert "File too large" in last

    kept = saved(workdir)
    process = start(data, recipe, workdir, *long)
    wait_for(lambda: saved(workdir)[-1] > kept[-1], process)
    for shard in data.rglob("*train.array_record*"):
        shard.write_bytes(b"")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1 and "Traceback" not in err
    assert f"resuming from step {kept[-1]:,} of" in out
    assert "error: dataset digits, split train, example" in err and "truncated" in err
    assert saved(workdir)[-1] > kept[-1]


def test_up_to_so_many_nonfinite_updates_are_skipped(data_dir, tmp_path):
    ends = []
    for may_skip in (0, 2):
        config = quickstart.get_config("smoke")
        config.schedule.base = 1e15  # parameters whose norm is finite, and no activation
        config.skip_nonfinite = may_skip
        with pytest.raises(NonFinite, match="config.skip_nonfinite=N skips") as error:
            train.run(config, str(tmp_path / str(may_skip)), "quickstart")
        ends.append(int(re.search(r"at step (\d+)", str(error.value))[1]))
        assert not (tmp_path / str(may_skip) / "results.json").exists()
    assert ends[1] == ends[0] + 2


@pytest.mark.skipif(sys.platform != "linux", reason="a device of Linux")
def test_standard_output_may_be_on_a_full_disk(tmp_path):
    code = """if True:
        import errno, os
        from mixer import command
        try:
            print("a line", flush=True)
        except OSError as error:
            assert command._is_of_output(error)
        assert not command._is_of_output(OSError(errno.EIO, "another disk"))
        assert not command._is_of_output(OSError(errno.ENOSPC, "full", "a file"))
        os._exit(3)
    """
    with open("/dev/full", "w") as full:
        ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=full)
    assert ended.returncode == 3


@pytest.mark.slow
def test_a_nonfinite_loss_stops_the_run(data_dir, tmp_path):
    wild = ("--config.schedule.base=1e30", "--config.optimizer.clip_norm=0.0")
    code, _, err = run(data_dir, "configs/quickstart.py:smoke", tmp_path / "nan", *wild)
    assert code == 1 and "Traceback" not in err
    assert "error: the " in err and " became " in err and "at step" in err
    assert not (tmp_path / "nan" / "results.json").exists()
