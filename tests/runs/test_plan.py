import dataclasses
import importlib.util
import json
import math
import os

import jax
import pytest

from configs import imagenet, quickstart
from mixer import errors
from mixer.planning import hlo, peaks, slices
from mixer.runs import plan
from mixer.runs.plan import planned_step
from mixer.runs.update import Update
from mixer.training import meshes


def config(*, name="", **runtime):
    made = quickstart.get_config(name or "smoke", "plan")
    made.runtime.update(runtime)
    return made


def test_a_plan_without_data(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    asked = imagenet.get_config("Mixer-S/32,64", "plan")
    asked.model.num_blocks = 2
    asked.batch_size, asked.ema_decay = 64, 0.999
    asked.runtime.update(strategy="fsdp", mesh={"data": 2, "fsdp": 4, "tensor": 1})
    plan.run(asked, str(tmp_path / "run"), "imagenet")
    found = json.loads((tmp_path / "run/results.json").read_text())
    measured = {k.removeprefix("plan/"): v for k, v in found["metrics"].items()}
    update = planned_step(asked).update
    assert found["params"] == update.num_params and found["devices"] == 8
    # A quarter of each, except norms and biases, which stay whole: under a hundredth.
    quarter = update.num_params
    for name in ("parameters", "gradients", "averages"):
        assert quarter <= measured[f"{name}_bytes"] <= 1.03 * quarter
    assert measured["optimizer_bytes"] == pytest.approx(2 * measured["parameters_bytes"], abs=64)
    assert measured["flops"] == pytest.approx(measured["ideal_flops"], rel=0.01)
    assert measured["sent_by_all-gather_bytes"] > 0 < measured["all-gathers"]
    assert measured["flops_per_image"] == update.flops_per_image
    temporary, gradients, activations = (
        measured[f"{name}_bytes"] for name in ("temporary", "gradients", "activations")
    )
    assert 0 < activations == temporary - gradients
    assert measured["peak_bytes"] > sum(
        measured[f"{name}_bytes"] for name in ("parameters", "optimizer", "averages")
    )
    out = capsys.readouterr().out
    assert "8 cpu (data 2 x fsdp 4 x tensor 1)" in out and "is unknown" in out
    plan.run(asked, str(tmp_path / "run"), "imagenet")
    assert "nothing to do" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("message", "named"),
    [
        ("Ran out of memory in memory space hbm. Used 20.50G of 15.48G hbm.", "peak"),
        ("Ran out of memory on HBM, the total memory required for HLO temporaries (20.50G) "
         "exceeds available HBM (15.48G).", "temporary"),
    ],
)  # fmt: skip
def test_a_step_too_large_is_a_result(message, named, tmp_path, data_dir, monkeypatch, capsys):
    def refuse(self):
        raise jax.errors.JaxRuntimeError(f"RESOURCE_EXHAUSTED: {message}")

    asked = config()
    asked.batch_size = 24  # three images per device: no even number of micro-batches

    monkeypatch.setattr(Update, "compile", refuse)
    plan.run(asked, str(tmp_path / "run"), "quickstart")
    found = json.loads((tmp_path / "run/results.json").read_text())["metrics"]
    assert found["plan/fits"] is False and found[f"plan/{named}_bytes"] == 20.5 * 2**30
    out = capsys.readouterr().out
    assert "DOES NOT FIT" in out and "runtime.remat" in out
    assert "the time of a step" not in out and found["plan/fits_as_asked"] is False
    plan.run(asked, "", "quickstart")
    assert capsys.readouterr().out == out and [p.name for p in tmp_path.iterdir()] == ["run"]


def test_a_step_too_large_is_split_until_it_fits(tmp_path, data_dir, monkeypatch, capsys):
    compiled = Update.compile

    def most(self):
        tried.append(self.micro_batches)
        if self.micro_batches < 8:
            message = "Ran out of memory in memory space hbm. Used 50.00G of 16.00G hbm."
            raise jax.errors.JaxRuntimeError(f"RESOURCE_EXHAUSTED: {message}")
        return compiled(self)

    tried = []
    device = peaks.Peak(1e12, 16 * 2**30, 1e11, 1.0)
    monkeypatch.setattr(peaks, "peak", lambda _: device)
    monkeypatch.setattr(Update, "compile", most)
    asked = config()
    asked.batch_size = 128  # 16 images per device
    plan.run(asked, str(tmp_path / "run"), "quickstart")
    found = json.loads((tmp_path / "run/results.json").read_text())["metrics"]
    # 50 GiB cannot fit into 16 in fewer than four parts.
    assert tried == [1, 4, 8] and found["plan/micro_batches"] == 8
    assert found["plan/fits"] is True and found["plan/fits_as_asked"] is False
    assert found["plan/step_seconds"] > 0
    out = capsys.readouterr().out
    assert "with --config.micro_batches=8 it fits" in out and "a step takes about" in out


def test_what_the_compiler_computes_twice_is_split_further(data_dir, monkeypatch, capsys):
    def cost(update):
        found = measured(update)
        share = {1: 1.06, 2: 1.0}[update.micro_batches]
        return dataclasses.replace(found, fits=True, flops=round(share * found.ideal_flops))

    measured = plan._cost
    monkeypatch.setattr(plan, "_cost", cost)
    monkeypatch.setattr(peaks, "peak", lambda _: peaks.Peak(1e10, 16 * 2**30, 1e13, 1.0))
    asked = config()
    asked.batch_size = 128  # 16 images per device
    plan.run(asked, "", "quickstart")
    out = capsys.readouterr().out
    assert "computing activations twice; --config.micro_batches=2 takes less time" in out
    assert "1.060 of an equal share" in out and "1.000 of an equal share" in out


def test_bad_plans_are_refused(tmp_path, monkeypatch, data_dir):
    asked = config()
    asked.plan.topology = "v3:2x2"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.delitem(os.environ, "TPU_LIBRARY_PATH", raising=False)
    with pytest.raises(errors.BadInput, match=r"pip install -r requirements-tpu-plan.txt"):
        planned_step(asked)
    asked = config(mesh={"data": -1, "fsdp": 3, "tensor": 1})
    with pytest.raises(errors.BadInput, match="fsdp=3.* for 8 devices"):
        planned_step(asked)
    asked = config()
    asked.dataset = "nowhere"
    with pytest.raises(errors.BadInput, match=r"set --config.model.num_classes="):
        planned_step(asked)
    asked.model.num_classes = 7
    assert planned_step(asked).update.shapes["head"]["kernel"].shape[1] == 7
    asked.runtime.strategy = "fspd"
    with pytest.raises(errors.BadInput, match="Did you mean 'fsdp'"):
        planned_step(asked)
    asked.runtime.update(strategy="replicate", remat="ful")
    with pytest.raises(errors.BadInput, match="Did you mean 'full'"):
        planned_step(asked)


compiler = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="needs requirements-tpu-plan.txt"
)


@compiler
@pytest.mark.parametrize("topology", ["v3:2x2", "v5e:2x4", "v6e:2x4", "v4:2x2x2"])
@pytest.mark.parametrize("strategy", ["replicate", "fsdp"])
def test_tpus_share_the_work_and_gather_no_activations(topology, strategy, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    asked = imagenet.get_config("Mixer-S/32,64", "plan")
    asked.model.update(num_blocks=3, dtype="bfloat16")
    asked.batch_size, asked.plan.topology = 2048, topology
    mesh = {"data": -1, "fsdp": 1 if strategy == "replicate" else 8, "tensor": 1}
    asked.runtime.update(strategy=strategy, scan=True, mesh=mesh)
    update = planned_step(asked).update
    program = hlo.read(update.compile().as_text())
    assert update.mesh.size == 8
    assert 2 * program.macs * 8 <= 1.02 * update.flops_per_image * update.batch_size
    squeezed = lambda shape: tuple(sorted(side for side in shape if side > 1))
    parameters = {squeezed(x.shape) for x in jax.tree.leaves(update.shapes)}
    gathered = [x for c in program.collectives if c.kind == "all-gather" for x in c.shapes]
    assert {squeezed(shape) for shape in gathered} <= parameters
    assert bool(gathered) == (strategy == "fsdp")


@compiler
@pytest.mark.parametrize("images", [16, 128])
@pytest.mark.parametrize("topology", ["v3:2x2", "v3:4x4", "v5e:2x4", "v6e:2x4", "v4:2x2x2"])
def test_two_slices_share_the_work_by_default(topology, images, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    asked = imagenet.get_config("Mixer-S/32,64", "plan")
    asked.model.num_blocks = 2
    asked.plan.update(topology=topology, slices=2)
    asked.batch_size = images * len(slices.devices(topology, 2))
    update = planned_step(asked).update
    assert update.mesh.shape["fsdp"] == (8 if images <= 64 else 1)
    program = hlo.read(update.compile().as_text())
    ideal = update.flops_per_image * update.batch_size / update.mesh.size
    assert ideal <= 2 * program.macs <= 1.02 * ideal
    parameters = {x.size for x in jax.tree.leaves(update.shapes)}
    gathers = [c for c in program.collectives if c.kind == "all-gather"]
    others = sum(c.size for c in gathers if not set(map(math.prod, c.shapes)) <= parameters)
    # For the head's kernel the compiler gathers the gradient of the logits, within a slice.
    assert others <= 0.02 * sum(c.size for c in gathers)


@compiler
def test_unknown_slices_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    asked = imagenet.get_config("Mixer-S/32", "plan")
    asked.plan.topology = "v9:2x2"
    with pytest.raises(errors.BadInput, match="config.plan.topology='v9:2x2': .*Expected a slice"):
        planned_step(asked)


@compiler
@pytest.mark.parametrize("topology", ["v3:2x2", "v5e:2x4", "v4:2x2x2"])
def test_slices_send_only_gradients_to_each_other(topology):
    devices = slices.devices(topology, 2)
    each = len(devices) // 2
    mesh = meshes.make_mesh(-1, each, 1, devices)
    assert dict(mesh.shape) == {"data": 2, "fsdp": each, "tensor": 1}
    for copy in mesh.devices:
        assert len({device.slice_index for device in copy.flat}) == 1
    with pytest.raises(errors.BadInput, match="data=1 for 2 TPU slices: expected a multiple of 2"):
        meshes.make_mesh(1, -1, 1, devices)
