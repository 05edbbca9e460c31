"""A training that starts from a workdir takes the model's architecture from there."""

import json

import pytest

from configs import finetune, quickstart, sweep, vtab
from mixer import runs
from mixer.errors import BadInput
from mixer.models import registry
from mixer.models.fields import MEANINGS, OF_TRAINING
from mixer.runs import doctor, input_rate, keys, start
from mixer.runs.training import build_training

# Fields of a Mixer-S/16; the recipes are given other models.
ALTERED = {
    "patch_size": 8,
    "num_blocks": 1,
    "hidden_dim": 12,
    "tokens_mlp_dim": 6,
    "channels_mlp_dim": 10,
    "gelu": "erf",
    "dropout": 0.25,
}


@pytest.fixture(scope="module")
def altered(data_dir, tmp_path_factory):
    """The workdir of a training whose model has other fields than the registered ones."""
    config = quickstart.get_config("smoke")
    config.model.update(ALTERED)
    config.total, config.schedule.warmup, config.batch_size = "1 steps", "0 steps", 8
    config.evaluators.test.split = "test[:8]"
    return carry_out(config, tmp_path_factory.mktemp("altered") / "run")


def carry_out(config, workdir):
    runs.load(config.run).run(config, str(workdir), "test")
    assert (workdir / "results.json").exists()
    return workdir


def recipe(module, altered, words, given=None, run="train", **changes):
    """The recipe on digits at 24 x 24, as if these keys were given on the command line."""
    config = module.get_config(words, run)
    config.update(init_from=str(altered), dataset="digits", batch_size=8, total="1 steps")
    config.image_size, config.schedule.warmup = (24, 24), "0 steps"
    config.input.transform = "resize"
    for name in ("dev", "test"):
        config.evaluators[name].update(transform="resize", batch_size=8, every="1 steps")
    config.evaluators.test.split = "test[:8]"
    config.update_from_flattened_dict((given or {}) | changes)
    return keys.track(config, {f"--config.{k}={v}": (k,) for k, v in (given or {}).items()})


def model_of(workdir):
    return json.loads((workdir / "config.json").read_text())["model"]


def test_finetuning_takes_the_architecture_and_keeps_its_own_fields(altered, tmp_path, capsys):
    config = recipe(finetune, altered, "digits", {"model.stochastic_depth": 0.3})
    ended = carry_out(config, tmp_path / "run")
    said = [line for line in capsys.readouterr().out.splitlines() if "using the model of" in line]
    assert len(said) == 1 and f"{altered}: name='Mixer-S/16', " in said[0]
    assert "patch_size=8" in said[0] and "dropout" not in said[0]
    # The recipe is for a Mixer-B/16 without dropout; the depth's rate was given.
    fields = {k: v for k, v in ALTERED.items() if k != "dropout"} | {"name": "Mixer-S/16"}
    expected = registry.model_fields("Mixer-S/16") | fields | {"stochastic_depth": 0.3}
    expected["dtype"] = "auto"  # as the recipe has it
    assert model_of(ended) == expected
    results = json.loads((ended / "results.json").read_text())
    before = json.loads((altered / "results.json").read_text())
    assert results["model"] == "Mixer-S/16" and results["params"] == before["params"]
    # The same command resumes it, even if its init_from no longer exists.
    moved = altered.rename(altered.parent / "moved")
    try:
        carry_out(config, ended)
        assert start.with_upstream_model(config, str(ended)).model.hidden_dim == 12
    finally:
        moved.rename(altered)
    assert "nothing to do" in capsys.readouterr().out and model_of(ended) == expected


@pytest.mark.parametrize(
    ("key", "value"), [("model.patch_size", 16), ("model.gelu", "tanh"), ("model.num_blocks", 2)]
)
def test_a_field_that_contradicts_the_weights_is_refused(key, value, altered):
    config = recipe(finetune, altered, "Mixer-S/16,digits", {key: value})
    name = key.partition(".")[2]
    message = (
        rf"config.{key}={value} would not be used: .*={ALTERED[name]!r} from .*init_from={altered}"
    )
    with pytest.raises(BadInput, match=message):
        start.with_upstream_model(config)


def used(config):
    """The keys that a training uses, as checked before anything is written."""
    own = start.with_upstream_model(config)
    build_training(own)
    return keys.used(own)


def test_a_field_that_agrees_and_the_models_own_name_are_fine(altered):
    config = recipe(finetune, altered, "Mixer-S/16,digits", {"model.patch_size": 8})
    assert used(config)["model"]["patch_size"] == 8


def test_a_word_for_another_size_is_refused_and_another_family_at_once(altered, tmp_path):
    config = keys.track(
        recipe(finetune, altered, "Mixer-L/16,digits"), {"the word 'Mixer-L/16'": ("model.name",)}
    )
    with pytest.raises(BadInput, match="word 'Mixer-L/16' would not be used: .*'Mixer-S/16'"):
        start.with_upstream_model(config)
    with pytest.raises(BadInput, match="a Mixer-S/16, .* the recipe's ViT-B/16: .*RECIPE:M"):
        start.with_upstream_model(recipe(finetune, altered, "ViT-B/16,digits"))
    with pytest.raises(BadInput, match="is not the workdir of a training run"):
        start.with_upstream_model(recipe(finetune, tmp_path, "digits"))


def test_other_kinds_of_init_from_do_not_change_the_model(altered, tmp_path):
    for path in ("", "random", str(tmp_path / "weights.npz"), "Mixer-B/16:imagenet21k"):
        config = recipe(finetune, path, "digits")
        assert start.with_upstream_model(config) is config


def test_a_sweep_and_vtab_take_it_too(altered, tmp_path, monkeypatch):
    trained = []

    def train(config, output, protocol, stop, times):
        trained.append(config.model.to_dict())

    monkeypatch.setattr(runs.load("train"), "train", train)
    for module, run, words in ((sweep, "sweep", "digits"), (vtab, "vtab", "smoke")):
        config = recipe(module, altered, words, run=run)
        config.sweep.update(
            grid="{'schedule.base': (0.1,)}", train="train[:16]", dev="train[16:24]"
        )
        if run == "vtab":
            config.vtab.tasks = ("caltech101",)
        runs.load(run).run(config, str(tmp_path / run), "test")
        (model,) = trained
        assert model["patch_size"] == 8 and model["gelu"] == "erf" and model["dropout"] == 0
        assert model_of(tmp_path / run)["hidden_dim"] == 12
        trained.clear()


def test_the_doctor_checks_the_model_that_will_be_trained(altered, capsys, monkeypatch):
    monkeypatch.setattr(input_rate, "_SECONDS", 0.01)
    config = recipe(finetune, altered, "digits")
    checked = doctor.needs_of(config, "", 1)
    assert checked.layout() and checked.rate()
    assert capsys.readouterr().out.count("using the model of") == 1
    params = json.loads((altered / "results.json").read_text())["params"]
    assert checked.checkpoint_bytes() == 12 * params


def test_fields_of_training_have_a_meaning_and_do_not_change_the_parameters():
    assert set(OF_TRAINING) <= MEANINGS.keys()
