"""Runs that are stopped, killed or damaged, then resumed: the numbers stay the same."""

import functools
import json
import random
import re
import shutil
import signal
import time

import jax
import numpy as np
import pytest
from runs_command import run, start, write_spy
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mixer.checkpoint.store import Store

RECIPE = "configs/quickstart.py"
SHORT = (
    "--config.total=60 steps",
    "--config.schedule.warmup=10 steps",
    "--config.batch_size=16",
    "--config.model.num_blocks=2",
    "--config.model.dropout=0.1",
    "--config.ema_decay=0.9",
    "--config.evaluators.test.every=20 steps",
    "--config.evaluators.test.batch_size=64",
    "--config.best=test/top1",
    "--config.runtime.log_every=7 steps",
    "--config.runtime.checkpoint_every=6 steps",
)
# Times and rates differ from run to run.
TIMES = re.compile("images_per_second|data_wait_share|device_days|seconds/|tflops|mfu")


def final(workdir):
    """All output of a complete run: arrays, metrics, results."""
    with Store(workdir / "checkpoints", read_only=True) as store:
        here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        step = store.steps()[-1]
        names = ("params", "opt_state", "ema")
        arrays = store.restore(step, {n: store.abstract(step, n, here) for n in names})
        kept = store.steps()
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    metrics = [{k: v for k, v in line.items() if not TIMES.match(k)} for line in lines]
    results = json.loads((workdir / "results.json").read_text())
    return jax.device_get(arrays), metrics, results["metrics"], kept


def assert_same(first, second):
    jax.tree.map(np.testing.assert_array_equal, first[0], second[0])
    assert first[1:] == second[1:]


@pytest.fixture(scope="module")
def undisturbed(data_dir, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("undisturbed")
    code, out, err = run(data_dir, RECIPE, workdir, *SHORT, "--config.runtime.profile=5-6")
    assert code == 0, err
    return workdir, out


def wait_for(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "timed out"
        time.sleep(0.002)


def steps_logged(workdir):
    path = workdir / "metrics.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def changed_since(path, moment):
    return path.exists() and path.stat().st_mtime_ns > moment


@pytest.mark.long
def test_killed_three_times_once_while_saving(undisturbed, data_dir, tmp_path):
    workdir = tmp_path / "killed"
    seed = time.time_ns()
    first, second = sorted(random.Random(seed).sample(range(2, 11), 2))
    print("lines logged at the kills:", first, second)  # shown if the test fails
    moments = [
        lambda: any((workdir / "checkpoints").glob("*tmp*")),
        lambda: steps_logged(workdir) >= first,
        lambda: steps_logged(workdir) >= second,
    ]
    for moment in moments:
        process = start(data_dir, RECIPE, workdir, *SHORT)
        # A line of an earlier session does not count: this one must have started.
        wait_for(
            functools.partial(changed_since, workdir / "metrics.jsonl", time.time_ns()), process
        )
        wait_for(moment, process)
        process.kill()
        process.communicate()
        assert not (workdir / "results.json").exists()
    # config.runtime may change in between, and recompiling gives the same program.
    fresh = {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    code, out, err = run(data_dir, RECIPE, workdir, *SHORT, "--config.runtime.workers=2", **fresh)
    assert code == 0, err
    assert "resuming from step" in out
    assert_same(final(workdir), final(undisturbed[0]))


@pytest.mark.long
def test_worker_processes_have_no_jax(data_dir, tmp_path):
    write_spy(tmp_path, tmp_path / "seen")
    overrides = ("--config.imports=spy", "--config.input.transform=watch|resize")
    more = ("--config.runtime.workers=1", "--config.total=10 steps")
    code, _, err = run(
        data_dir, RECIPE, tmp_path / "out", *SHORT, *overrides, *more, PYTHONPATH=str(tmp_path)
    )
    assert code == 0, err
    assert (tmp_path / "seen").exists()


@pytest.mark.slow
def test_sigterm_saves_and_says_how_to_resume(undisturbed, data_dir, tmp_path):
    workdir = tmp_path / "stopped"
    process = start(data_dir, RECIPE, workdir, *SHORT)
    wait_for(lambda: steps_logged(workdir) >= 2, process)
    process.send_signal(signal.SIGTERM)  # Ctrl-C: the next test
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "stopped by SIGTERM: saved step" in out and "the same command resumes the run" in out
    assert not (workdir / "results.json").exists()
    code, out, err = run(data_dir, RECIPE, workdir, *SHORT)
    assert code == 0, err
    assert_same(final(workdir), final(undisturbed[0]))


@pytest.mark.long
def test_ctrl_c_saves_even_if_the_output_is_closed(undisturbed, data_dir, tmp_path):
    """What `python main.py ... | tee log` does: Ctrl-C ends tee first."""
    workdir = tmp_path / "piped"
    process = start(data_dir, RECIPE, workdir, *SHORT)
    wait_for(lambda: steps_logged(workdir) >= 1, process)
    process.stdout.close()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=120) == 0, process.stderr.read()
    process.stderr.close()
    assert any(path.name.isdigit() for path in (workdir / "checkpoints").iterdir())
    code, out, err = run(data_dir, RECIPE, workdir, *SHORT)
    assert code == 0 and "resuming from step" in out, err
    assert_same(final(workdir), final(undisturbed[0]))


@pytest.mark.long
def test_one_process_per_workdir_and_the_same_data(image_folder, data_dir, tmp_path):
    workdir = tmp_path / "busy"
    recipe = f"configs/folder.py:folder:{image_folder},32,smoke"
    overrides = (f"--config.dataset=folder:{image_folder}", "--config.evaluators.test.split=test")
    overrides += ("--config.evaluators.dev.split=",)
    process = start(data_dir, recipe, workdir, *overrides, "--config.total=4000 steps")
    wait_for(lambda: steps_logged(workdir) >= 1, process)
    code, _, err = run(data_dir, recipe, workdir, *overrides, "--config.total=4000 steps")
    assert code == 2 and "another process is training there" in err
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=120)
    assert "saved step" in out
    next((image_folder / "train" / "cat").iterdir()).unlink()
    code, _, err = run(data_dir, recipe, workdir, *overrides, "--config.total=4000 steps")
    assert code == 2 and "(34 now) are not those" in err
    assert not (workdir / "damaged").exists()


@pytest.mark.slow
def test_a_stop_while_compiling_exits_cleanly(data_dir, tmp_path):
    workdir = tmp_path / "early"
    process = start(data_dir, RECIPE, workdir, *SHORT)
    wait_for(lambda: any(workdir.glob("events.out.tfevents*")), process)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "stopped by SIGTERM: no step done" in out and "Traceback" not in err


@pytest.mark.long
def test_a_damaged_newest_checkpoint_is_reported_and_the_previous_one_used(
    undisturbed, data_dir, tmp_path
):
    workdir = tmp_path / "damaged"
    process = start(data_dir, RECIPE, workdir, *SHORT)
    wait_for(lambda: (workdir / "checkpoints" / "12").exists(), process)
    process.kill()
    process.communicate()
    newest = max(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())
    meta = workdir / "checkpoints" / str(newest) / "meta" / "metadata"
    content = json.loads(meta.read_text())
    content["checksums"]["opt_state"][next(iter(content["checksums"]["opt_state"]))] ^= 1
    del content["sha256"], content["format"]  # else the meta itself is found altered
    meta.write_text(json.dumps(content))
    code, out, err = run(data_dir, RECIPE, workdir, *SHORT)
    assert code == 0, err
    assert "damaged checkpoint" in out and "array opt_state/" in out and "was altered" in out
    assert_same(final(workdir), final(undisturbed[0]))


@pytest.mark.slow
def test_a_complete_run_is_left_alone_and_another_is_refused(undisturbed, data_dir):
    workdir, out = undisturbed
    assert "first step after" in out and "done in" in out
    assert re.search(r"steps of 16 \(0\.0\d GFLOPs per image\) on 1 cpu", out)
    before = {p: p.stat().st_mtime_ns for p in workdir.rglob("*")}
    code, out, _ = run(data_dir, RECIPE, workdir, *SHORT, "--config.runtime.threads=1")
    assert code == 0 and "complete" in out
    code, _, err = run(
        data_dir, RECIPE, workdir, *SHORT, "--config.seed=7", "--config.schedule.base=0.01"
    )
    assert code == 2
    assert "config.seed: 0 -> 7" in err and "config.schedule.base: 0.003 -> 0.01" in err
    assert {p: p.stat().st_mtime_ns for p in workdir.rglob("*")} == before


@pytest.mark.slow
def test_what_a_complete_run_leaves(undisturbed):
    workdir, _ = undisturbed
    results = json.loads((workdir / "results.json").read_text())
    assert list(results)[:5] == ["run", "protocol", "model", "dataset", "resolution"]
    assert {"device_days", "device_kind", "precision", "versions", "commit"} <= set(results)
    assert results["run"] == "train" and results["protocol"] == "quickstart"
    assert results["step"] == 60 and results["upstream"] is None
    assert {"test/top1", "test/nll", "test/ece", "test_ema/top1"} <= set(results["metrics"])
    _, metrics, _, kept = final(workdir)
    assert [m["step"] for m in metrics if "train/loss" in m] == [*range(7, 60, 7), 60]
    assert [m["step"] for m in metrics if "test/top1" in m] == [20, 40, 60]
    best = max((m for m in metrics if "test/top1" in m), key=lambda m: m["test/top1"])
    assert best["step"] in kept and kept[-1] == 60
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        assert ("train/loss" in line) == ("tflops_per_second_per_device" in line)
    spent = sum(v for line in lines for k, v in line.items() if k.startswith("seconds/"))
    assert 0 < spent <= results["seconds"]  # the rest is after the last line
    assert any((workdir / "profile").glob("plugins/profile/*/*.xplane.pb"))
    events = EventAccumulator(str(workdir))
    events.Reload()
    curve = [(event.step, event.value) for event in events.Scalars("test/top1")]
    wanted = [(m["step"], m["test/top1"]) for m in metrics if "test/top1" in m]
    np.testing.assert_allclose(curve, wanted, rtol=1e-6)


@pytest.mark.slow
def test_killed_between_the_last_checkpoint_and_the_results(undisturbed, data_dir, tmp_path):
    workdir = tmp_path / "late"
    shutil.copytree(undisturbed[0], workdir)
    (workdir / "results.json").unlink()
    code, _, err = run(data_dir, RECIPE, workdir, *SHORT)
    assert code == 0, err
    assert_same(final(workdir), final(undisturbed[0]))
