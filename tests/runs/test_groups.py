"""A config has the keys of a single run only if that run is selected."""

import importlib
import json
import sys

import pytest
from test_configs import RECIPES

from configs import groups, quickstart
from mixer import command, recipes, runs
from mixer.errors import BadInput
from mixer.runs import keys, workdir
from mixer.runs.recorded import training_config

NAMES = {group.__name__ for group in groups.EVERY}


def own_keys(config):
    return NAMES & set(config)


def of_run(run):
    return {group.__name__ for group in groups.OF_RUN.get(run, ())}


@pytest.mark.parametrize("name", [*RECIPES, "paper"])
def test_a_recipe_has_the_keys_of_its_run(name, data_dir):
    by_itself = importlib.import_module(f"configs.{name}").get_config()
    assert own_keys(by_itself) == of_run(by_itself.run)
    assert recipes.load(name).to_dict() == by_itself.to_dict()
    for run in ("sweep", "plan", "train"):
        config = recipes.load(name, run)
        assert config.run == run and own_keys(config) == of_run(run) and config.is_locked
    whole = recipes.load(name, whole=True)
    assert whole.run == by_itself.run and own_keys(whole) == NAMES
    assert own_keys(recipes.load(name, "show")) == NAMES


def test_every_group_with_keys_of_its_own_belongs_to_a_run():
    assert groups.OF_RUN.keys() <= runs.described().keys() and groups.ALL in runs.described()
    assert groups.runs_with("sweep.grid") == ["sweep", "vtab"] and not groups.runs_with("total")


def test_recipes_fill_the_keys_of_the_runs_that_they_are_for():
    assert recipes.load("jft", "prepare").prepare.split == "full"
    for recipe in ("finetune:cifar10", "vtab:cifar100"):
        assert "schedule.base" in recipes.load(recipe, "sweep").sweep.grid
    assert recipes.load("vtab:64", "vtab").vtab.resolution == 64
    assert recipes.load("paper:table3,Mixer-B/16").reproduce.rows


def test_a_users_recipe_without_the_argument_run(tmp_path, monkeypatch, capsys):
    file = tmp_path / "mine.py"
    file.write_text("from configs import quickstart\nget_config = lambda: quickstart.get_config()")
    config = recipes.load(str(file), "predict")
    assert config.run == "predict" and own_keys(config) == {"images", "predict"}
    file.write_text(
        "from configs import quickstart\n"
        "def get_config(words=''):\n"
        "    config = quickstart.get_config(words)\n"
        "    config.sweep.seeds = (3,)\n"
        "    return config\n"
    )
    argv = ["mixer", f"--config={file}", "--workdir=/nowhere"]
    monkeypatch.setattr(sys, "argv", argv)
    assert command.main() == 2
    err = capsys.readouterr().err
    assert "the recipe sets 'sweep', which only --config.run=sweep or vtab has" in err
    monkeypatch.setattr(sys, "argv", [argv[0], "--config=sweep", "--config.sweep.rates=1", argv[2]])
    assert command.main() == 2
    err = capsys.readouterr().err
    assert "unknown config key 'config.sweep.rates'. Did you mean \"sweep.grid\"" in err
    file.write_text("")
    with pytest.raises(BadInput, match="is not a recipe: it has no get_config"):
        recipes.load(str(file))


def test_a_workdir_that_recorded_the_keys_of_all_runs_is_still_valid(tmp_path):
    """As older versions did, whose configs had them all."""
    everything = keys.as_json(recipes.load("quickstart", whole=True))
    (tmp_path / "config.json").write_text(json.dumps(everything))
    path = workdir.open_workdir(str(tmp_path))
    workdir.check(path, quickstart.get_config())
    workdir.begin(path, keys.track(quickstart.get_config()))
    (tmp_path / "config.json").write_text(json.dumps(everything))
    config = quickstart.get_config("", "replay")
    config.init_from = str(tmp_path)
    assert training_config(keys.track(config), path).total == "50 epochs"
    other = quickstart.get_config()
    other.seed = 5
    with pytest.raises(BadInput, match="config.seed: 0 -> 5"):
        workdir.check(path, other)
