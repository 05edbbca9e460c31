"""Keys that are "auto": chosen by the devices, said, recorded, and kept when a run resumes."""

import json
import math

import jax
import pytest

from configs import imagenet, permutation, quickstart
from mixer import defaults, errors
from mixer.runs import train
from mixer.runs.model import rules_of, training_mesh
from mixer.runs.resuming import check_config
from mixer.training.placement import STRATEGIES


@pytest.fixture
def like_a_tpu(monkeypatch):
    """Makes the CPU's row that of a TPU with few images a device."""
    row = defaults.Default("cpu", math.inf, "bfloat16", 8, "a test")
    monkeypatch.setattr(defaults, "DEFAULTS", (row,))


def shapes(width):
    return {"head": {"kernel": jax.ShapeDtypeStruct((width, 3), "float32")}}


def test_a_run_on_such_devices(tmp_path, data_dir, like_a_tpu, monkeypatch, capsys):
    config = quickstart.get_config("smoke", "train")
    config.total = "2 steps"
    config.schedule.update(decay="constant", warmup="0 steps", end=config.schedule.base)
    train.run(config, str(tmp_path / "run"), "quickstart")
    assert "on 8 cpu, in bfloat16, fsdp 8" in capsys.readouterr().out
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert results["precision"].startswith("bfloat16 compute, float32 parameters")
    assert results["mesh"] == {"data": 1, "fsdp": 8, "tensor": 1}

    # Where the default is another, it is resumed as it began.
    monkeypatch.undo()
    (tmp_path / "run/results.json").unlink()
    config.total = "3 steps"
    train.run(config, str(tmp_path / "run"), "quickstart")
    assert "resuming from step 2" in capsys.readouterr().out
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert results["step"] == 3 and results["precision"].startswith("bfloat16")


def test_a_run_of_before_there_was_auto_is_resumed_in_its_precision():
    old = {"run": "train", "model.dtype": "float32", "total": "9 steps"}
    check_config("run", old, old | {"model.dtype": "auto"}, complete=False)
    with pytest.raises(errors.BadInput, match="model.dtype: 'float32' -> 'bfloat16'"):
        check_config("run", old, old | {"model.dtype": "bfloat16"}, complete=False)


@pytest.mark.parametrize("recipe", [imagenet, permutation])
def test_the_precision_is_a_word(recipe):
    for words, dtype in (("", "auto"), (",float32", "float32"), (",bfloat16", "bfloat16")):
        assert recipe.get_config(f"Mixer-B/16{words}").model.dtype == dtype
    with pytest.raises(errors.BadInput, match="a dtype was already given"):
        recipe.get_config("float32,bfloat16")


def test_what_is_set_counts(data_dir, like_a_tpu):
    config = quickstart.get_config("smoke", "train")
    assert dict(training_mesh(config, shapes(16)).shape) == {"data": 1, "fsdp": 8, "tensor": 1}
    assert rules_of(config, 8) == STRATEGIES["fsdp"] and rules_of(config, 1) == ()
    # Eight devices cannot share 12 rows of a kernel: nothing is sharded.
    assert training_mesh(config, shapes(12)).shape["fsdp"] == 1
    config.runtime.mesh.fsdp = 4
    assert dict(training_mesh(config, shapes(16)).shape) == {"data": 2, "fsdp": 4, "tensor": 1}
    config.runtime.mesh.fsdp, config.runtime.strategy = 1, "replicate"
    assert training_mesh(config, shapes(16)).shape["fsdp"] == 1
    config.runtime.strategy = "aut"
    with pytest.raises(errors.BadInput, match="Did you mean 'auto'"):
        rules_of(config, 1)
