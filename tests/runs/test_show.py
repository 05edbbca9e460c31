"""`config.run=show` and a recipe's --help: each key with its meaning, and what follows."""

import functools
import importlib
import re

import pytest
from runs_command import Forked, environment
from test_configs import RECIPES, get_config

from configs import groups, meanings
from mixer.errors import BadInput
from mixer.models import fields, registry
from mixer.runs import keys, show
from mixer.runs.training import build_training


@functools.cache
def model_fields():
    return {name: registry.model_fields(name) for name in registry.list_models()}


@pytest.mark.parametrize("name", [*RECIPES, "paper"])
def test_every_key_of_every_recipe_has_a_meaning(name, image_folder, data_dir):
    config = get_config(name, "", image_folder, run=groups.ALL)
    for key in keys.flat(keys.as_json(config)):
        assert len(meanings.of(key, config)) >= 3, key
    lines = "\n".join(show.keys_of(config))
    for key in keys.flat(keys.as_json(config)):
        assert re.search(rf"^[* ][+ ] {re.escape(key)}  ", lines, re.MULTILINE), key


def test_every_field_of_every_model_has_a_meaning():
    named = {field for of_model in model_fields().values() for field in of_model}
    assert named - {"num_classes"} == fields.MEANINGS.keys()


def marked(config):
    """{mark: its keys}."""
    found = {"*": set(), "+": set()}
    for line in show.keys_of(config):
        if match := re.match(r"([* ])([+ ]) ([\w.]+)  ", line):
            for mark in match.group(1, 2):
                found.setdefault(mark, set()).add(match[3])
    return found


def test_what_differs_and_what_is_given_is_marked():
    config = importlib.import_module("configs.quickstart").get_config()
    differing = {"batch_size", "total", "schedule.base", "schedule.warmup", "input.transform"}
    before = marked(keys.track(config))
    assert differing < before["*"] and not before["+"]
    assert not {"seed", "optimizer.name", "evaluators.test.dataset"} & before["*"]
    config.seed, config.total = 3, "300 epochs"  # which is the default
    after = marked(keys.track(config, {"--": ("seed", "total")}))
    assert after["+"] == {"seed", "total"}
    assert after["*"] == before["*"] - {"total"} | {"seed"}


def shown(config, capsys):
    show.run(config, "", "a protocol")
    out = capsys.readouterr().out
    assert out.startswith("a protocol\n")
    return dict(re.findall(r"^    (\w.*?)  +(.*)$", out.partition("What follows")[2], re.M))


def test_the_numbers_are_those_of_the_training(data_dir, capsys):
    config = importlib.import_module("configs.quickstart").get_config()
    config.input.fraction = 0.5
    numbers = shown(config, capsys)
    training = build_training(config)
    steps = training.total
    seen = f"{steps:,} steps, {steps * 64:,} images, {steps * 64 / 1437:.2f} epochs"
    assert numbers["training"] == seen
    assert numbers["warm-up"] == f"100 steps, 6,400 images, {6400 / 1437:.2f} epochs"
    assert numbers["parameters"] == f"{training.update.num_params:,}, with a head of 10 classes"
    assert numbers["images per class"].startswith(f"{len(training.reader.source) / 10:.1f} ")
    of_step = float(re.search(r"; (.*) in training", numbers["GFLOPs per image"])[1])
    assert of_step == pytest.approx(training.update.flops_per_image / 1e9, rel=0.01)


def test_a_slice_has_two_names_and_gets_a_line_in_any_case(data_dir, capsys):
    config = get_config("imagenet", "", None, run=groups.ALL)
    config.model.num_blocks = 1

    def line(topology, batch_size):
        config.plan.topology, config.batch_size = topology, batch_size
        return shown(config, capsys)[f"on {topology}"]

    assert line("v3:4x4", 4096) == line("v3-32", 4096)
    assert line("v3:4x4", 4096).startswith("a step takes about ")
    assert line("v3-32", 16) == "a batch of 16 is too small for 32 devices"
    assert line("v3-32", 32) == "a step of less than a millisecond waits for the host"


def test_what_depends_on_missing_data_is_reported_as_unknown(data_dir, tmp_path, capsys):
    config = get_config("finetune", "Mixer-B/16,cifar10", None)
    config.runtime.data_dir, config.input.stage = str(tmp_path), str(tmp_path / "stage")
    config.schedule.warmup = "2 epochs"
    numbers = shown(config, capsys)
    assert numbers["training images"].startswith("not known: dataset 'cifar10' is not prepared")
    assert "images per class" not in numbers
    assert numbers["training"] == "10,000 steps, 5,120,000 images"
    assert "unknown without the number of images" in numbers["warm-up"]
    # Table 1 and the head: TFDS knows how many classes there are.
    assert numbers["parameters"] == f"{59_880_472 - 768 * 990 - 990:,}, with a head of 10 classes"
    assert not list(tmp_path.iterdir())


def test_invalid_values_are_refused(data_dir):
    wrong = {
        "batch_size": (0, "config.batch_size=0: expected 1 or more"),
        "total": ("10", "is not a duration"),
        "image_size": ((25, 24), "not divisible by patch_size 4"),
    }
    for key, (value, message) in wrong.items():
        config = importlib.import_module("configs.quickstart").get_config()
        config[key] = value
        with pytest.raises(BadInput, match=message):
            show.run(config, "", "")


def test_recipes_without_training_show_what_they_have(data_dir, capsys):
    assert set(shown(get_config("paper", "table3,Mixer-B/16", None), capsys)) == {"runs"}
    numbers = shown(get_config("fewshot", "", None), capsys)
    assert numbers["training images"] == "not known: the recipe has no training data"
    assert "without the head" in numbers["parameters"] and "training" not in numbers


def test_show_and_help_need_no_workdir_and_refuse_no_other_runs_keys(data_dir):
    def command(*arguments):
        process = Forked(list(arguments), environment(data_dir, COLUMNS="120"))
        out, err = process.communicate(timeout=120)
        assert (process.returncode, err) == (0, "")
        return out

    given = ("--config=quickstart:smoke,32", "--config.images=a.png", "--config.seed=5")
    helped, out = command("--help", *given), command(*given, "--config.run=show")
    quickstart = importlib.import_module("configs.quickstart")
    for line in quickstart.__doc__.splitlines():
        assert line in helped
    for text in (helped, out):
        assert text.startswith("quickstart:smoke,32\n")
        assert re.search(r"^\*\+ images +'a.png' +predict: ", text, re.MULTILINE)
        assert re.search(r"^\*\+ seed +5 ", text, re.MULTILINE)
        assert re.search(r"^ \+ image_size +\(32, 32\) ", text, re.MULTILINE)
    by_path = ("--config=configs/quickstart.py:smoke,32", *given[1:])
    assert command(*by_path, "--config.run=show") == out
    assert "10 steps, 80 images" in out and "10 steps, 80 images" not in helped
