"""Runs of several real processes on one machine: stopped, killed, resumed with another number."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import one_of_several
import pytest
from etils import epath
from runs_command import ROOT, environment, several, start, start_all

from configs import quickstart
from mixer.checkpoint import folders
from mixer.errors import BadInput
from mixer.hosts import devices, parting
from mixer.runs import train
from mixer.weights.stored import read_stored

RECIPE = "configs/quickstart.py"
SHORT = {
    "total": "80 steps",
    "schedule.warmup": "10 steps",
    "batch_size": 16,
    "model.num_blocks": 1,
    "evaluators.test.every": "20 steps",
    "evaluators.test.split": "test[:27]",
    "evaluators.test.batch_size": 16,
    "runtime.log_every": "5 steps",
    "runtime.checkpoint_every": "10 steps",
}


def embeddings(workdir):
    with np.load(workdir / "embeddings.npz") as found:
        return dict(found)


@pytest.mark.long
def test_four_processes_see_what_one_does(data_dir, tmp_path):
    more = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "PYTHONPATH": str(ROOT)}
    for number in (0, 1):
        (tmp_path / f"of_{number}").mkdir()
    shutil.copytree(ROOT / "notebooks" / "images", tmp_path / "images")
    (tmp_path / "images" / "broken.png").write_bytes(b"")
    processes = [
        subprocess.Popen(
            [sys.executable, one_of_several.__file__, tmp_path]
            + [flag.partition("=")[2] for flag in flags],
            env=environment(data_dir, **more),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for flags in several(4)
    ]
    rows, metrics = one_of_several.rows_and_metrics()
    one_of_several.embed(tmp_path / "images", tmp_path / "alone")
    for process in processes:
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0, out
    found = [json.loads((tmp_path / f"{i}.json").read_text()) for i in range(4)]
    assert all(len(each["rows"]) == len(rows) // 4 for each in found)
    assert {row: digest for each in found for row, digest in each["rows"].items()} == rows
    for each in found:
        assert each["metrics"].keys() == metrics.keys() and 0 < metrics["top1"] < 1
        assert each["metrics"]["top1"] == metrics["top1"]
        assert each["metrics"]["nll"] == pytest.approx(metrics["nll"], abs=1e-5)

        said = each["exchanges"]
        assert said["total"] == 6 and said["first"] == {"process": 0} and said["alike"] is None
        assert said["refused"] == "BadInput: only process 0 has looked"
        assert "config.seed: 0 in process 0, 1 in process 2" in said["unlike"]
        assert "steps" not in said["unlike"]
        assert said["shared"] is None and not list(tmp_path.glob("**/.shared.*"))
        assert "/of_" in said["not shared"] and "BadInput: --workdir=" in said["not shared"]
        blind = [f"process {number} (" in said["not shared"] for number in range(4)]
        assert blind == [False, True, True, True] and "gs://BUCKET/FOLDER" in said["not shared"]

        # One process cannot read the newest: all restore the previous one, in any placement.
        checkpoints = each["checkpoints"]
        assert checkpoints["right"] and checkpoints["step"] == 1 and checkpoints["steps"] == [1]
        assert "process 1 cannot read step 2" in checkpoints["reports"][0]
    assert (tmp_path / "damaged" / "2").is_dir()
    together, alone = (embeddings(tmp_path / run) for run in ("predicted", "alone"))
    np.testing.assert_array_equal(together["files"], alone["files"])
    np.testing.assert_allclose(together["embeddings"], alone["embeddings"], atol=1e-5)
    assert len(alone["files"]) == len(list((tmp_path / "images").iterdir())) - 1


def logged(workdir):
    path = workdir / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return json.loads(lines[-1])["step"] if lines else 0


def go_on(processes, workdir, steps):
    """Waits for so many more steps, and until halfway between two checkpoints."""
    end, first = time.monotonic() + 120, logged(workdir)
    while (now := logged(workdir)) < first + steps or now % 10 != 5:
        for process in processes:
            assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "timed out"
        time.sleep(0.01)


def outcome(processes):
    return [(p.returncode, out, err) for p in processes for out, err in [p.communicate(timeout=90)]]


def saved(workdir):
    return max(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())


@pytest.mark.long(minutes=2)
def test_one_run_by_one_process_by_four_and_by_two(data_dir, tmp_path):
    """Whole on each device first, then spread over both processes."""
    alone, workdir = tmp_path / "alone", tmp_path / "several"
    config = quickstart.get_config("")
    config.update_from_flattened_dict(SHORT | {"runtime.keep_checkpoints": 100})
    train.run(config, str(alone), "quickstart")
    # As if it had been killed after step 10.
    shutil.copytree(alone, workdir)
    (workdir / "results.json").unlink()
    for folder in (workdir / "checkpoints").iterdir():
        if int(folder.name) > 10:
            shutil.rmtree(folder)
    cut(workdir / "metrics.jsonl", 10)

    flags = [f"--config.{key}={value}" for key, value in SHORT.items()]
    begin = lambda n, *more: start_all(n, 4, data_dir, RECIPE, workdir, *flags, *more)
    processes = begin(4)
    go_on(processes, workdir, 10)
    processes[2].send_signal(signal.SIGUSR2)  # becomes SIGTERM, which JAX forwards
    ends = outcome(processes)
    assert [code for code, _, _ in ends] == [0] * 4, ends
    assert "resuming from step 10 of 80" in ends[0][1]
    assert f"saved step {saved(workdir)} of 80" in ends[0][1]
    assert not any(out for _, out, _ in ends[1:]), "only the first prints"

    stopped, again = saved(workdir), tmp_path / "again"
    shutil.copytree(workdir, again)
    train.run(config, str(again), "quickstart")
    assert_same_run(again, alone)

    spread = ("--config.runtime.strategy=fsdp", "--config.runtime.mesh.fsdp=4")
    processes = begin(2, *spread)
    go_on(processes, workdir, 10)
    killed = time.monotonic()
    processes[1].kill()
    (code, _, err), _ = outcome(processes)
    assert code == 1 and time.monotonic() - killed < 60
    last = err.strip().splitlines()[-1]
    assert last.startswith("error: process 0 of 2 has lost another process")
    assert f"The last checkpoint is {workdir}/checkpoints/{saved(workdir)}" in last
    assert not (workdir / "results.json").exists()

    assert stopped < saved(workdir)
    ends = outcome(begin(2, *spread))
    assert [code for code, _, _ in ends] == [0] * 2, ends
    assert_same_run(workdir, alone)


def cut(log, step):
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(line for line in lines if json.loads(line)["step"] <= step))


def assert_same_run(workdir, alone):
    """Both runs are complete, with the same parameters, results and metrics.jsonl."""
    ours, theirs = (read_stored(str(p), None).arrays for p in (workdir, alone))
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        if not name.endswith("token_mixing/Dense_1/bias"):  # its gradient is all but 0
            distance = np.linalg.norm(ours[name] - array) / np.linalg.norm(array)
            assert distance < 5e-6, (name, distance)
    results = [json.loads((path / "results.json").read_text()) for path in (workdir, alone)]
    assert results[0]["metrics"] == pytest.approx(results[1]["metrics"], abs=1e-5)
    lines = [(path / "metrics.jsonl").read_text().splitlines() for path in (workdir, alone)]
    for mine, other in zip(*lines, strict=True):
        mine, other = json.loads(mine), json.loads(other)
        assert mine.keys() == other.keys()
        for key in ("step", "train/loss", "train/accuracy", "test/top1", "test/nll"):
            assert mine.get(key) == pytest.approx(other.get(key), abs=1e-5)


@pytest.mark.slow
def test_processes_with_different_commands_are_refused(data_dir, tmp_path):
    workdir = tmp_path / "none"
    processes = [
        start(data_dir, RECIPE, workdir, f"--config.seed={seed}", *flags)
        for seed, flags in zip((0, 7), several(2), strict=True)
    ]
    for i, (code, _, err) in enumerate(outcome(processes)):
        assert code == 2, err
        assert f"error: process {i} of 2: the processes of this run differ" in err
        assert "config.seed: 0 in process 0, 7 in process 1" in err
    assert not workdir.exists()


def test_a_process_says_that_it_waits_and_exits_after_the_timeout():
    """The other one of two processes never starts."""
    alone = (
        "from mixer.hosts import joining\n"
        "joining._NOTICE_AFTER, joining._START_TIMEOUT = 1, 3\n"
        "joining.start(None, None, None, 'train')\n"
    )
    step = {"SLURM_STEP_NODELIST": "localhost", "SLURM_JOB_ID": "1", "SLURM_NTASKS": "2"}
    step |= {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "JAX_COORDINATOR_PORT": several(1)[0][0]}
    step["JAX_COORDINATOR_PORT"] = step["JAX_COORDINATOR_PORT"].rpartition(":")[2]
    ended = subprocess.run(
        [sys.executable, "-c", alone],
        cwd=ROOT,
        env=os.environ | step,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1
    waits, unmet = ended.stderr.splitlines()
    assert waits.startswith("process 0 of 2 waits at localhost:")
    assert waits.endswith(
        "SLURM_NTASKS=2 says that there are 2; --num_processes=1 runs this one alone"
    )
    assert unmet.startswith("error: process 0 of 2: not all processes have joined at localhost:")


def test_the_cpu_instead_of_the_requested_platform_is_refused(monkeypatch):
    monkeypatch.setattr(devices.jax, "default_backend", lambda: "cpu")
    monkeypatch.setattr(devices, "accelerator", lambda: None)
    for asked, allowed in (("cpu", True), ("", True), ("cuda", False), ("tpu,cpu", False)):
        monkeypatch.setenv("JAX_PLATFORMS", asked)
        if allowed:
            devices.check(1)
        else:
            with pytest.raises(BadInput, match="finds only the CPU"):
                devices.check(1)
    monkeypatch.setattr(devices, "accelerator", lambda: "NVIDIA GPU")
    monkeypatch.setenv("JAX_PLATFORMS", "")
    devices.check(1)  # without JAX's packages for it nobody has asked for it
    monkeypatch.setattr(devices.importlib.util, "find_spec", lambda name: name)
    with pytest.raises(BadInput, match="a NVIDIA GPU and its packages are here"):
        devices.check(1)
    monkeypatch.setattr(devices.jax, "default_backend", lambda: "gpu")
    devices.check(1)


@pytest.mark.parametrize("where", ["near", "far"])
def test_an_interrupted_run_names_the_last_checkpoint(where, request, tmp_path):
    folder = epath.Path(tmp_path) if where == "near" else request.getfixturevalue("bucket")
    folder = folder / "run" / "checkpoints"
    with parting.watch(folder, folders.newest):
        assert parting.last_checkpoint() == "No checkpoint was saved yet."
        for step, seal in ((8, "commit_success.txt"), (12, "commit_success.txt"), (16, "params")):
            name = str(step) if where == "far" or step < 16 else "16.orbax-checkpoint-tmp"
            (folder / name).mkdir(parents=True)
            (folder / name / seal).write_text("")
        assert parting.last_checkpoint() == f"The last checkpoint is {folder}/12."


def test_abort_on_a_single_host_reports_no_lost_process():
    """Without other processes, abort() must not print that one is lost."""
    alone = (
        "import os, jax\n"
        "from mixer.hosts import joining\n"
        "def initialize(*args, **kwargs): raise ValueError('coordinator_address is missing')\n"
        "jax.distributed.initialize = initialize\n"
        "joining._join('train', joining._METADATA)\n"
        "os.abort()\n"
    )
    ended = subprocess.run([sys.executable, "-c", alone], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == -signal.SIGABRT and "lost" not in ended.stderr


def test_a_process_that_reported_its_own_error_reports_no_lost_process():
    """Two processes refuse the same input: one exits first, and the runtime then ends the other."""
    refused = (
        "import os\n"
        "from mixer.hosts.last_words import LastWords\n"
        "last = LastWords()\n"
        "last.words = lambda: 'another process is lost'\n"
        "last.install()\n"
        "last.code = 2\n"
        "os.abort()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", refused], cwd=ROOT, capture_output=True, text=True
    )
    assert (ended.returncode, ended.stderr) == (2, "")
