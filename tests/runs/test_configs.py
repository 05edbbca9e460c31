"""Every recipe builds, makes a step, reads all its keys, and can be split over eight devices."""

import importlib
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding

import mixer
from mixer.planning import hlo
from mixer.runs import keys
from mixer.runs.model import apply_of
from mixer.runs.plan import planned_step
from mixer.runs.prepare import preparation
from mixer.runs.training import build_training
from mixer.training import meshes, placement, step
from mixer.weights import fitting

RECIPES = sorted(
    path.stem
    for path in (Path(__file__).parents[2] / "configs").glob("*.py")
    if "def get_config" in path.read_text() and path.stem != "paper"  # which trains by the others
)
# Read by main.py, by other runs than train, with init_from, SAM, a teacher, a part of the data,
# both mixup and CutMix, or under another schedule.
READ_ELSEWHERE = {
    "run",
    "mixup_switch_prob",
    "init_step",
    "init_ema",
    "pretrained_size",
    "resize_method",
    "input.fraction_seed",
    "sam.rho_min",
    "sam.alpha",
    "schedule.timescale",
    "distill",
    "sweep",  # of the recipe that is one
    "probe",
}


def get_config(name, words, image_folder, **run):
    module = importlib.import_module(f"configs.{name}")
    if name == "folder":
        words = ",".join(filter(None, (words, f"folder:{image_folder}")))
    return module.get_config(words, **run)


@pytest.mark.parametrize("name", RECIPES)
def test_smoke_builds_steps_and_reads_every_key(name, image_folder, data_dir, monkeypatch):
    first = jax.devices()[:1]  # which takes half the time to compile; the long test has eight
    monkeypatch.setattr(jax, "devices", lambda: first)
    # A smaller Mixer than the recipe's, at 64 pixels: it compiles sooner.
    own = {"quickstart": "smoke", "ablations": "smoke,64"}
    words = own.get(name, "smoke,64,Mixer-S/32")
    config = keys.track(get_config(name, words, image_folder))
    training = build_training(config)
    unread = set(keys.flat(keys.as_json(config))) - keys.read_so_far(config) - READ_ELSEWHERE
    unread = {key for key in unread if key.partition(".")[0] not in READ_ELSEWHERE}
    assert not unread, f"configs/{name}.py sets keys that nothing reads"
    assert training.total == 10 and training.card.model["num_blocks"] == 2
    state = training.update.create_state()
    if config.run == "train":
        update = step.guarded(training.update.compile())
        for batch in training.reader.batches(0, 2):
            state, metrics = update(state, batch)
        assert np.isfinite(float(metrics["loss"])) and int(state.step) == 2
    kinds = {type(getattr(e, "evaluator", e)): e for e in training.evaluations}
    for evaluation in kinds.values():
        measured = evaluation.measure(state.params)
        higher = [name for name, is_better in evaluation.directions.items() if is_better]
        assert higher and all(0 <= measured[name] <= 1 for name in higher)
        assert evaluation.directions.keys() <= measured.keys()


def test_preparation_reads_its_keys(image_folder, data_dir):
    config = get_config("folder", "", image_folder, run="prepare")
    config.prepare.source, config.prepare.name = f"folder:{image_folder}", "mine"
    config.prepare.dedup_against = "digits:test"
    config = keys.track(config)
    preparation(config)
    assert keys.read_so_far(config) >= {f"prepare.{key}" for key in config.prepare}


# fewshot and probe make no step; the others train finetune's and jft's.
SAME = ("fewshot", "probe", "sweep", "vtab", "permutation", "data_scaling")
SPREAD = [
    (name, *how) for name in RECIPES if name not in SAME for how in (("replicate", 1), ("fsdp", 2))
]


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "strategy", "micro_batches"),
    [*SPREAD, ("imagenet", "replicate", 4), ("imagenet", "fsdp", 1)],
)
def test_eight_devices_share_the_work_and_gather_no_activations(
    name, strategy, micro_batches, image_folder, data_dir
):
    config = get_config(name, "", image_folder, run="plan")
    config.total = "20_000 steps"  # the stand-ins for the data are small
    if "num_blocks" in config.model:
        config.model.num_blocks = 2  # all blocks are alike, and compiling takes long
    if config.input.split.startswith("full["):
        config.input.split = "full"
    config.micro_batches = micro_batches
    if strategy == "fsdp":
        config.runtime.strategy, config.runtime.mesh.data, config.runtime.mesh.fsdp = "fsdp", 1, -1
    update = planned_step(config).update
    program = hlo.read(update.compile().as_text())
    assert 2 * program.macs * 8 <= 1.02 * update.flops_per_image * update.batch_size
    gathered = [x for c in program.collectives if c.kind == "all-gather" for x in c.shapes]
    squeezed = lambda shape: tuple(sorted(side for side in shape if side > 1))
    parameters = {squeezed(x.shape) for x in jax.tree.leaves(update.shapes)}
    others = {squeezed(shape) for shape in gathered} - parameters
    # The head's gradient may be made from all logits where these are fewer numbers than it has.
    rows, head = update.batch_size // micro_batches, update.shapes["head"]["kernel"]
    assert others <= {squeezed((rows, head.shape[1]))} and all(
        math.prod(o) < head.size for o in others
    )
    assert bool(gathered) == (strategy == "fsdp")
    assert "all-reduce" in program.sent()


def test_evaluation_gathers_kernels_once_and_no_activations():
    mesh = meshes.make_mesh(1, 8)
    model = mixer.create_model("Mixer-S/16", num_classes=8, num_blocks=2, scan=True)
    shapes = fitting.shapes(model, (224, 224))
    specs = placement.parameter_specs(shapes, mesh, placement.STRATEGIES["fsdp"])
    params = jax.tree.map(
        lambda x, spec: x.update(sharding=NamedSharding(mesh, spec)), shapes, specs
    )
    rows = meshes.batch_sharding(mesh)
    images = jax.ShapeDtypeStruct((32, 224, 224, 3), jnp.uint8, sharding=rows)
    evaluate = jax.jit(apply_of(model, mesh), out_shardings=meshes.replicated(mesh))
    program = hlo.read(evaluate.lower(params, images).compile().as_text())
    kernels = sum(x.size * 4 for x in jax.tree.leaves(shapes) if x.ndim > 1)
    assert program.sent()["all-gather"] == pytest.approx(kernels * 7 / 8, rel=0.01)
