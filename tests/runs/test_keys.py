"""No given key is ignored: every run refuses the keys that it does not use."""

import functools
import importlib
import json
import re
import sys

import pytest

from mixer import command
from mixer.errors import BadInput
from mixer.runs import keys, predict, train, workdir
from mixer.runs.contact_sheet import sheet_reader
from mixer.runs.convert import conversion
from mixer.runs.evaluate import evaluations_of
from mixer.runs.fewshot import few_shot_of
from mixer.runs.input_benchmark import build_benchmark
from mixer.runs.plan import planned_step
from mixer.runs.prepare import preparation
from mixer.runs.probe import build_probe
from mixer.runs.sweep import build_sweep
from mixer.runs.trained import load_trained
from mixer.runs.training import build_training
from mixer.runs.vtab import sweeps_of
from mixer.signals import StopSignal

pytestmark = pytest.mark.usefixtures("one_device")

RECIPE = {"fewshot": "fewshot", "sweep": "sweep", "vtab": "vtab", "verify_zoo": "imagenet"}


@pytest.fixture(scope="module")
def trained(data_dir, tmp_path_factory):
    """The workdir of a short training on the digits."""
    path = tmp_path_factory.mktemp("trained") / "run"
    config = recipe("train")
    config.runtime.checkpoint_every = "10 steps"
    with StopSignal() as stop:
        train.train(config, str(path), "quickstart:smoke", stop, {})
    return path


def recipe(run, words="smoke"):
    module = importlib.import_module(f"configs.{RECIPE.get(run, 'quickstart')}")
    return module.get_config(words, run)


def built(config):
    """Builds everything for which a run reads its keys."""
    run = config.run
    if run == "train" and config.probe.l2:
        build_probe(config)
    elif run == "train":
        build_training(config).initial()
    elif run in ("evaluate", "fewshot", "predict"):
        model = load_trained(config)
        if run == "evaluate":
            evaluations_of(config, model)
        elif run == "fewshot":
            few_shot_of(config, model)
        else:
            assert config.images and predict.asked(config, None)[1]
    else:
        what = {
            "sweep": build_sweep,
            "convert": conversion,
            "contact_sheet": sheet_reader,
            "input_benchmark": build_benchmark,
            "prepare": preparation,
            "plan": planned_step,
            "vtab": lambda config: [build_sweep(own) for own in sweeps_of(config).values()],
        }
        what[run](config)


# What is needed besides the recipe; {} is replaced by a trained workdir.
NEEDS = {
    "evaluate": {"init_from": "{}"},
    "predict": {"init_from": "{}", "images": "a.png"},
    "fewshot": {"init_from": "{}"},
    "convert": {"init_from": "{}", "convert_to": "{}/out.npz"},
    "prepare": {"prepare.source": "folder:{folder}", "prepare.name": "mine"},
}


def followed(run, trained, image_folder, given, words="smoke"):
    config = recipe(run, words)
    needed = {
        key: value.format(trained, folder=image_folder) for key, value in NEEDS.get(run, {}).items()
    }
    for key, value in (needed | given).items():
        *groups, last = key.split(".")
        group = functools.reduce(lambda found, name: found[name], groups, config)
        group[last] = value
    return keys.track(config, {f"--config.{k}={v}": (k,) for k, v in given.items()})


IGNORED = [
    ("train", "mixup_switch_prob", 0.3),
    ("train", "resize_method", "resample"),
    ("train", "pretrained_size", (24, 24)),
    ("train", "init_step", "best"),
    ("train", "init_ema", True),
    ("train", "input.fraction_seed", 3),
    ("train", "sam.alpha", 0.1),
    ("train", "sam.rho_min", 0.1),
    ("train", "schedule.timescale", "5 steps"),
    ("sweep", "schedule.base", 0.5),
    ("sweep", "evaluators.dev.split", "train[:3]"),
    ("evaluate", "image_size", (48, 48)),
    ("evaluate", "model.num_blocks", 3),
    ("evaluate", "evaluators.test.transform", "resize_small(30)|central_crop"),
    ("evaluate", "evaluators.test.every", "1 steps"),
    ("evaluate", "input.transform", "resize"),
    ("evaluate", "batch_size", 4),
    ("evaluate", "init_head", "reset"),
    ("evaluate", "resize_method", "resample"),
    ("evaluate", "runtime.workers", 2),
    ("evaluate", "runtime.checkpoint_every", "1 steps"),
    ("evaluate", "total", "1 steps"),
    ("evaluate", "input.class_names", "names.txt"),
    ("predict", "image_size", (48, 48)),
    ("predict", "model.gelu", "erf"),
    ("predict", "evaluators.test.split", "train"),
    ("predict", "dataset", "cifar10"),
    ("fewshot", "image_size", (96, 96)),
    ("fewshot", "evaluators.fewshot.every", "1 steps"),
    ("convert", "seed", 3),
    ("convert", "model.patch_size", 8),
    ("convert", "push", "lab/new"),
    ("convert", "license", "mit"),
    ("convert", "best", "test/top1"),
    ("contact_sheet", "batch_size", 16),
    ("contact_sheet", "mixup_switch_prob", 0.3),
    ("contact_sheet", "evaluators.test.split", "train"),
    ("input_benchmark", "runtime.threads", 2),
    ("input_benchmark", "batch_size", 16),
    ("prepare", "batch_size", 16),
    ("prepare", "input.transform", "resize"),
    ("plan", "runtime.log_every", "3 steps"),
    ("plan", "evaluators.test.transform", "resize"),
    ("vtab", "schedule.base", 0.5),
]


@pytest.mark.parametrize(("run", "key", "value"), IGNORED)
def test_a_key_that_the_run_does_not_use_is_refused(run, key, value, trained, image_folder):
    config = followed(run, trained, image_folder, {key: value})
    if run == "vtab":
        config.vtab.tasks = ("caltech101",)
    built(config)
    with pytest.raises(BadInput, match=f"config.{key}=.*would not be used.*Leave it out"):
        keys.used(config)


def test_a_schedule_reads_the_keys_of_its_decay_only(trained, image_folder):
    read = {}
    for decay in ("linear", "exponential", "constant", "rsqrt"):
        config = followed("train", trained, image_folder, {"schedule.decay": decay})
        built(config)
        found = {key.removeprefix("schedule.") for key in keys.read_so_far(config)}
        read[decay] = found & {"end", "timescale"}
    assert read["linear"] == read["exponential"] == {"end"}
    assert read["constant"] == set() and read["rsqrt"] == {"timescale"}


@pytest.mark.parametrize(
    ("run", "key", "value"),
    [
        ("predict", "images", "a.png"),
        ("contact_sheet", "sheet", 9),
        ("sweep or vtab", "sweep.grid", "{'schedule.base': (0.1,)}"),
        ("vtab", "vtab.with_96", True),
        ("plan", "plan.topology", "v3:4x4"),
        ("convert", "convert_to", "out.npz"),
    ],
)
def test_a_key_of_another_run_is_refused_and_its_run_named(run, key, value, monkeypatch, capsys):
    given = ["--config=quickstart:smoke", f"--config.{key}={value}", "--workdir=/nowhere"]
    monkeypatch.setattr(sys, "argv", ["mixer", *given])
    assert command.main() == 2
    err = capsys.readouterr().err
    assert re.search(f"config.{key}=.*would not be used: config.run=train .*Leave it out", err)
    assert f"config.{key} belongs to --config.run={run}." in err


def test_the_value_that_takes_precedence_is_reported(trained, image_folder):
    config = followed("evaluate", trained, image_folder, {"image_size": (48, 48)})
    built(config)
    with pytest.raises(BadInput, match=rf"config.image_size=\[24, 24\] from .*{trained} takes"):
        keys.used(config)
    same = followed("evaluate", trained, image_folder, {"image_size": (24, 24)})
    built(same)
    assert "image_size" not in keys.used(same)


def test_a_word_that_a_loaded_model_overrules_is_refused(trained):
    from configs import arguments

    for words, refused in (("Mixer-S/16,24", ""), ("Mixer-B/16", "Mixer-B/16"), ("32", "32")):
        config = recipe("evaluate", f"smoke,{words}")
        config.init_from = str(trained)
        config = keys.track(config, arguments.keys_of(words))
        built(config)
        if refused:
            with pytest.raises(BadInput, match=f"the word '{refused}' would not be used"):
                keys.used(config)
        else:
            keys.used(config)


def test_no_key_stays_unread(trained, image_folder):
    """Each key that can be set is read by some run of some recipe."""
    read, everything = {"run"}, set()
    cases = [
        ("train", {"input.fraction": 0.5, "init_from": str(trained), "sam.rho": 0.1}),
        ("train", {"schedule.decay": "rsqrt", "mixup": 0.8, "cutmix": 1.0}),
        ("train", {"distill.teacher": str(trained)}),
        *((run, {}) for run in (*NEEDS, "sweep", "contact_sheet", "input_benchmark", "plan")),
        ("vtab", {"vtab.tasks": ("caltech101",)}),
    ]
    # A sweep sets its own validation split; `fewshot` measures once.
    read |= {"evaluators.dev.split", "evaluators.fewshot.every"}
    # A folder of the Hub is for published sizes: tests/weights/test_hub_push.py makes one.
    read |= {"push", "license"}
    for run, given in cases:
        config = followed(run, trained, image_folder, given)
        built(config)
        read |= keys.read_so_far(config)
        everything |= set(keys.flat(keys.as_json(config)))
    assert not everything - read, sorted(everything - read)


def test_what_a_copy_sets_is_recorded_although_the_command_may_not_set_it():
    config = keys.track(recipe("train"), {"--config.total=5 steps": ("total",)})
    assert config.seed == 0
    own = config.copy_and_resolve_references()
    own.schedule.base, own.total = 0.5, "3 steps"
    with pytest.raises(BadInput, match="config.total=5 steps would not be used"):
        keys.used(own)
    config = keys.track(recipe("train"))
    own = config.copy_and_resolve_references().copy_and_resolve_references()
    own.schedule.base = 0.5
    assert own.schedule.base == 0.5 and keys.used(config) == {}
    assert keys.used(own) == {"schedule": {"base": 0.5}}


def test_only_used_keys_are_recorded_and_later_sessions_keep_them(tmp_path):
    config = keys.track(recipe("train"))
    assert config.seed == 0 and config.model.patch_size == 4
    path = tmp_path / "run"
    workdir.begin(workdir.open_workdir(str(path)), config)
    assert json.loads((path / "config.json").read_text()) == {"seed": 0, "model": {"patch_size": 4}}
    later = keys.track(recipe("train"), {"--config.seed=0": ("seed",)})
    assert later.total == "10 steps"
    workdir.begin(workdir.open_workdir(str(path)), later)
    assert json.loads((path / "config.json").read_text()).keys() == {"seed", "model", "total"}


def test_copies_record_reads_but_not_of_keys_they_have_overwritten():
    config = keys.track(recipe("train"))
    copy = config.copy_and_resolve_references()
    copy.seed, copy.model.num_blocks = 3, 1
    assert (copy.seed, copy.model.num_blocks, copy.model.copy_and_resolve_references().dropout) == (
        3,
        1,
        0.0,
    )
    assert keys.read_so_far(config) == {"model.dropout"}
    assert config.seed == 0 and "seed" in keys.read_so_far(copy)


def test_a_misspelt_key_in_a_recipe_is_refused():
    config = recipe("train")
    with pytest.raises(AttributeError, match='Did you mean "batch_size"'):
        config.batchsize = 3
    with pytest.raises(AttributeError, match="transfrom"):
        config.evaluators.test.transfrom = "resize"
    config.evaluators.mine = config.evaluators.test
