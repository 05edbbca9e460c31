"""Mistakes on the command line: one line, exit code 2, nothing written."""

import subprocess
import sys
import types

import gcsfs.retry
import jax
import pytest
from ml_collections import ConfigDict
from runs_command import ROOT, run

from mixer import command, runs

# A mistake, and what the message must contain. The recipe is quickstart unless given.
BAD = [
    ({"config": "configs/quickstart.py:Mixer-B/17"}, "Did you mean 'Mixer-B/16'"),
    ({"config": "configs/quickstart.py:smoke,fast"}, "unknown config argument 'fast'"),
    ({"config": "configs/quickstart.py:seed=3"}, "--config.seed=3"),
    ({"config": "configs/quickstart.py:cifar11"}, "Did you mean 'cifar10"),
    ({"config": "configs/quikstart.py"}, "Did you mean 'configs/quickstart.py'"),
    ("--config.model.name=Mixer-X/16", "unknown model 'Mixer-X/16'. Did you mean"),
    ("--config.dataset=digist", "Did you mean 'digits'"),
    ("--config.batchsize=8", 'config.batchsize\'. Did you mean "batch_size"'),
    ("--config.lr=0.1", 'Did you mean "schedule.base" (the learning rate after warm-up)?'),
    ("--config.nothing_like_it=1", "All keys: --config=configs/quickstart.py --help"),
    ("--output_dir=runs", 'Did you mean "--workdir"'),
    ("--config.batch_size=many", "error: --config.batch_size=many: expected a whole number"),
    ("--config.label_smoothing=low", "--config.label_smoothing=low: expected a number"),
    ("--config.total.epochs=3", "config.total is a value, '50 epochs', not a group of keys"),
    ("--config.probe=0.1", "config.probe is a group of keys: set --config.probe.l2=VALUE"),
    ("--config.image_size[0]=32", "set all of it: --config.image_size=(24, 24)"),
    ("--config.optimizer=adam", "--config.optimizer.KEY=VALUE, where KEY is one of agc, "),
    ("--config.run=trian", "Did you mean 'train'"),
    ("--config.batch_size=12", "batch_size=12 is not divisible by the 8 devices: use 8 or 16"),
    ("--config.model.patch_size=5", "24 x 24 is not divisible by patch_size 5"),
    ("--config.total=10", "expected a number and a unit"),
    ("--config.init_from=/nowhere", "/nowhere/checkpoints does not exist"),
    ("--config.imports=no_such_module", "No module named 'no_such_module'"),
    ("--config.seed=-1", "config.seed=-1: expected 0 <= seed"),
    ("--config.total=1e999 steps", "more than 2^31 steps"),
    ("--config.schedule.base=nan", "config.schedule.base is not finite"),
    ("--config.ema_decay=1.5", "expected 0 <= ema_decay < 1"),
    ("--config.model.stochastic_depth=1.0", "expected 0 <= stochastic_depth < 1"),
    ("--config.dataset=../x", "dataset '../x'"),
    ("--config.runtime.workers=-1", "config.runtime.workers=-1: expected 0 or more"),
    ("--config.runtime.keep_checkpoints=0", "expected 1 or more"),
    ("--config.optimizer.multipliers=('head', 0.1)", "not a pair of a regular expression"),
    ("--config.optimizer.name=adam(b1='x')", "b1='x': expected a number from 0 to below 1"),
    ("--config.runtime.scan=yes", "error: --config.runtime.scan=yes: expected True or False"),
    ("--config.model.num_blocks=0", "config.model"),
    ('--config.runtime.mesh={"fsdp": 1}', "config.runtime.mesh is a group of keys"),
    ("--config.images=a.png", "config.images=a.png would not be used: config.run=train"),
    ("--config.model.dtype=float16", "Use bfloat16"),
    ("--config.best=test/top2", "Did you mean 'test/top"),
    ("--config.input.split=train[:0]", "contains no examples"),
    ("--config.input.fraction=0.0001", "fraction=0.0001 of 1,437 examples leaves none"),
    ("extra", "unexpected argument 'extra'"),
    ("--learning_rate=1", "flag 'learning_rate'. Did you mean \"--config.schedule.base\""),
]


def test_a_misspelt_key_in_a_recipe_is_reported(data_dir, tmp_path):
    recipe = tmp_path / "mine.py"
    recipe.write_text(
        "from configs import quickstart\n"
        "def get_config(words=''):\n"
        "    config = quickstart.get_config(words)\n"
        "    config.optimizer.weight_decy = 0.3\n"
        "    return config\n"
    )
    code, _, err = run(data_dir, recipe, tmp_path / "run")
    assert code == 2 and len(err.splitlines()) == 1
    assert "the recipe sets 'weight_decy'" in err and 'Did you mean "weight_decay"' in err


@pytest.mark.parametrize(("wrong", "message"), BAD)
def test_bad_input_is_one_line_exit_two_and_nothing_written(
    wrong, message, data_dir, tmp_path, said
):
    config = wrong["config"] if isinstance(wrong, dict) else "configs/quickstart.py"
    overrides = [] if isinstance(wrong, dict) else [wrong]
    code, _, err = said(f"--config={config}", f"--workdir={tmp_path / 'run'}", *overrides)
    assert code == 2, err
    assert err.startswith("error: ") and message in err, err
    assert "Traceback" not in err and len(err.splitlines()) == 1, err
    assert not (tmp_path / "run").exists()


def test_a_started_process_refuses_it_alike(data_dir, tmp_path):
    wrong = "--config.model.patch_size=5"
    code, _, err = run(data_dir, "configs/quickstart.py", tmp_path / "run", wrong)
    assert code == 2 and err.startswith("error: ") and dict(BAD[6:])[wrong] in err
    assert len(err.splitlines()) == 1 and not (tmp_path / "run").exists()


def test_an_unwritable_workdir_is_reported_at_once(data_dir, tmp_path):
    (tmp_path / "file").write_text("in the way")
    code, out, err = run(data_dir, "configs/quickstart.py", tmp_path / "file" / "run")
    assert code == 2 and "compile" not in out
    assert err.startswith(f"error: --workdir={tmp_path}/file/run cannot be written: ")


def test_an_unreachable_store_is_one_line(monkeypatch, capsys):
    def run(*_):
        raise gcsfs.retry.HttpError({"code": 503, "message": "Service Unavailable"})

    nobody = dict.fromkeys(("coordinator", "num_processes", "process_id"))
    monkeypatch.setattr(command.flags, "FLAGS", types.SimpleNamespace(**nobody))
    monkeypatch.setattr(runs, "load", lambda name: types.SimpleNamespace(run=run))
    assert command._run(ConfigDict({"run": "train"}), "gs://bucket/run", "quickstart") == 1
    said = "error: the object store cannot be used: Service Unavailable, 503\n"
    assert capsys.readouterr().err == said


def test_too_little_memory_is_one_line_with_what_saves_it(monkeypatch, capsys):
    def run(*_):
        raise jax.errors.JaxRuntimeError(
            "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 20.5G of 15.48G hbm.\n"
            "Largest allocations: ..."
        )

    nobody = dict.fromkeys(("coordinator", "num_processes", "process_id"))
    monkeypatch.setattr(command.flags, "FLAGS", types.SimpleNamespace(**nobody))
    monkeypatch.setattr(runs, "load", lambda name: types.SimpleNamespace(run=run))
    assert command._run(ConfigDict({"run": "train"}), "run", "quickstart") == 1
    said = capsys.readouterr().err
    assert said.startswith("error: the memory of the devices is too small: RESOURCE_EXHAUSTED: Ran")
    assert "micro_batches=2 or more, runtime.remat=full" in said and len(said.splitlines()) == 1


def test_an_interrupt_does_not_wait_for_threads():
    """For instance, one that writes a checkpoint to an unreachable store."""
    interrupted = (
        "import sys, threading, time, types\n"
        "from ml_collections import ConfigDict\n"
        "from mixer import command, runs\n"
        "def run(*_):\n"
        "    threading.Thread(target=time.sleep, args=(100,)).start()\n"
        "    print('under way')\n"
        "    raise KeyboardInterrupt\n"
        "runs.load = lambda name: types.SimpleNamespace(run=run)\n"
        "command.flags.FLAGS(sys.argv[:1])\n"
        "command._run(ConfigDict({'run': 'train'}), '', '')\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", interrupted], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (ended.returncode, ended.stdout) == (1, "under way\n")
    assert ended.stderr == "error: interrupted.\n"
