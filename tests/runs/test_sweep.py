"""Sweeps: what is trained, what is chosen, and that kills and machines change nothing."""

import json
import signal
import time

import pytest
import tfds_stand_ins as stand_ins
from runs_command import run, start

from configs import quickstart
from configs import sweep as recipe
from configs import vtab as vtab_recipe
from mixer import errors
from mixer.data.sources.vtab_tasks import TASKS
from mixer.runs import results, sweep, train, vtab, workdir
from mixer.runs.vtab import sweeps_of
from mixer.training.nonfinite import NonFinite

TINY = {"num_blocks": 1, "hidden_dim": 8, "tokens_mlp_dim": 8, "channels_mlp_dim": 8}


@pytest.fixture
def config(data_dir):
    """Three rates, two seeds, digits."""
    config = recipe.get_config("Mixer-S/16,digits,16,smoke")
    config.model.update(TINY)
    config.sweep.grid = "{'schedule.base': (0.03, 0.003, 0.01)}"
    return config


class Pretence:
    """Replaces trainings: accuracies computed from rate and seed."""

    metric = "top1"

    def __init__(self, dev):
        self.dev, self.trained, self.stop_at, self.diverge = dev, [], None, ()

    def __call__(self, config, output, protocol, stop, times):
        rate, seed = config.schedule.base, config.seed
        self.trained.append((rate, seed, config.dataset, config.input.split))
        path = workdir.open_workdir(output)
        workdir.begin(path, config)
        if len(self.trained) == self.stop_at:
            stop.received = "SIGTERM"
            return
        if rate in self.diverge:
            raise NonFinite(3, "loss", float("nan"))
        measured = {"dev": self.accuracy(config), "test": rate + 0.01 * seed}
        names = [name for name, entry in config.evaluators.items() if entry.split]
        content = dict.fromkeys(results.SHARED) | {
            "seed": seed,
            "dataset": config.dataset,
            "seconds": 60,
            "device_days": 0.5,
            "images_per_second_per_device": 100.0,
            "skipped_examples": 0,
            "metrics": {f"{name}/{self.metric}": measured[name] for name in names},
        }
        workdir.write_json(path / workdir.RESULTS, content)

    def accuracy(self, config):
        return self.dev[config.schedule.base]


@pytest.fixture
def trainings(monkeypatch):
    pretence = Pretence({0.003: 0.5, 0.01: 0.8, 0.03: 0.8})
    monkeypatch.setattr(train, "train", pretence)
    return pretence


def results_of(path):
    return json.loads((path / "results.json").read_text())


def test_the_best_rate_is_trained_on_everything(config, trainings, tmp_path, capsys):
    sweep.run(config, str(tmp_path / "out"), "sweep")
    part, whole = "train[:-32]", "train"
    # Of equally good rates, the smaller.
    assert [(rate, seed, split) for rate, seed, _, split in trainings.trained] == [
        (0.003, 0, part),
        (0.01, 0, part),
        (0.03, 0, part),
        (0.01, 0, whole),
        (0.01, 1, whole),
    ]
    results = results_of(tmp_path / "out")
    assert results["metrics"] == pytest.approx(
        {"test/top1": 0.015, "test/top1_std": 0.5**0.5 * 0.01, "seeds": 2, "learning_rate": 0.01}
    )
    assert results["run"] == "sweep" and results["dataset"] == "digits"
    assert results["seed"] is None and results["seconds"] == 300 and results["device_days"] == 2.5
    out = capsys.readouterr().out
    assert "0.01            0.8000 *\n" in out and "mean            0.0150 ± 0.0071" in out
    sweep.run(config, str(tmp_path / "out"), "sweep")
    assert len(trainings.trained) == 5 and "nothing to do" in capsys.readouterr().out


def test_without_a_grid_only_the_seeds_differ(data_dir, trainings, tmp_path, capsys):
    config = quickstart.get_config("smoke", "sweep")
    config.schedule.base = 0.003
    trainings.dev = {0.003: 0.5}
    sweep.run(config, str(tmp_path), "quickstart")
    split = config.input.split
    assert trainings.trained == [(0.003, seed, "digits", split) for seed in (0, 1, 2)]
    assert [path.name for path in sorted((tmp_path / "trials").iterdir())] == [
        f"seed{seed}" for seed in (0, 1, 2)
    ]
    metrics = results_of(tmp_path)["metrics"]
    assert metrics == pytest.approx({"test/top1": 0.013, "test/top1_std": 0.01, "seeds": 3})
    out = capsys.readouterr().out
    assert "seed            0, 1, 2\n" in out
    assert "test/top1       0.0130 ± 0.0100   (0.0030, 0.0130, 0.0230)\n" in out
    sweep.run(config, str(tmp_path), "quickstart")
    assert len(trainings.trained) == 3 and "nothing to do" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"best": "test/top1"}, "a sweep without config.sweep.grid chooses nothing"),
        ({"sweep.dev": "test"}, "Without all three only the seeds differ"),
        ({"evaluators.test.split": ""}, "config.evaluators measures nothing"),
        ({"sweep.seeds": (1, 1)}, "expected one or more distinct numbers"),
        ({"patience": 2}, "a sweep uses each training's last step"),
    ],
)
def test_what_seeds_alone_cannot_have_is_refused(change, message, data_dir, trainings, tmp_path):
    config = quickstart.get_config("smoke", "sweep")
    config.update_from_flattened_dict(change)
    with pytest.raises(errors.BadInput, match=message):
        sweep.run(config, str(tmp_path / "out"), "quickstart")
    assert not (tmp_path / "out").exists() and not trainings.trained


def test_another_metric_of_the_held_out_images_may_choose(config, trainings, tmp_path, capsys):
    config.best, trainings.metric = "dev/nll", "nll"
    sweep.run(config, str(tmp_path / "out"), "sweep")
    metrics = results_of(tmp_path / "out")["metrics"]
    assert metrics["learning_rate"] == 0.003  # the lowest
    assert metrics["test/nll"] == pytest.approx(0.003 + 0.01 / 2)
    trial = tmp_path / "out" / "trials" / "whole_rate0.003_seed1" / "config.json"
    assert json.loads(trial.read_text())["best"] == ""  # the last step of each training counts
    out = capsys.readouterr().out
    assert "dev/nll (lower is better)\n" in out and "0.003           0.5000 *\n" in out
    for changes, message in (
        ({"best": "test/nll"}, "a sweep chooses by a metric of config.evaluators.dev, such as"),
        (
            {"best": "dev/nl"},
            "dev does not measure nl, by which .* but dev/top1, dev/top5, d",
        ),
        ({"best": "", "patience": 2}, "config.patience=2: a sweep uses each training's last step"),
    ):
        config.update(changes)
        with pytest.raises(errors.BadInput, match=message):
            sweep.run(config, str(tmp_path / "bad"), "sweep")
    assert not (tmp_path / "bad").exists()


def test_without_retraining_the_chosen_trial_counts(config, trainings, tmp_path):
    config.sweep.retrain = False
    sweep.run(config, str(tmp_path), "sweep")
    assert [t[:2] for t in trainings.trained] == [(0.003, 0), (0.01, 0), (0.03, 0), (0.01, 1)]
    assert {split for *_, split in trainings.trained} == {"train[:-32]"}
    metrics = results_of(tmp_path)["metrics"]
    assert metrics["test/top1"] == pytest.approx(0.015) and metrics["dev/top1"] == 0.8


def test_a_choice_stands(config, trainings, tmp_path):
    trainings.stop_at = 4
    sweep.run(config, str(tmp_path), "sweep")
    assert len(trainings.trained) == 4 and not (tmp_path / "results.json").exists()
    assert json.loads((tmp_path / "choice.json").read_text())["learning_rate"] == 0.01
    for file in (tmp_path / "trials").glob("without_dev*/results.json"):
        file.unlink()
    trainings.dev = {0.003: 0.9, 0.01: 0.1, 0.03: 0.1}
    sweep.run(config, str(tmp_path), "sweep")
    assert [t[:2] for t in trainings.trained[4:]] == [(0.01, 0), (0.01, 1)]


@pytest.mark.parametrize("machines", [2, 3, 5])
def test_machines_share_the_trials(config, trainings, tmp_path, machines, capsys):
    config.sweep.machines = machines
    for number in [*range(machines)] * 2:
        config.sweep.machine = number
        sweep.run(config, str(tmp_path), "sweep")
        if number == 0 and len(trainings.trained) < 3:
            assert "yet to complete without_dev_rate0.01_seed0" in capsys.readouterr().out
    assert len(trainings.trained) == len(set(trainings.trained)) == 5
    assert results_of(tmp_path)["metrics"]["test/top1"] == pytest.approx(0.015)


def test_a_rate_that_diverges_is_not_chosen(config, trainings, tmp_path):
    trainings.diverge = (0.01,)
    sweep.run(config, str(tmp_path), "sweep")
    assert results_of(tmp_path)["metrics"]["learning_rate"] == 0.03
    assert json.loads((tmp_path / "choice.json").read_text())["dev/top1"][1] == [0.01, None]
    trainings.diverge = (0.003, 0.01, 0.03)
    for _ in range(2):  # a rerun says so again
        with pytest.raises(errors.Failure, match="with every rate"):
            sweep.run(config, str(tmp_path / "all"), "sweep")
    assert len(trainings.trained) == 5 + 3


def test_any_keys_are_varied_in_all_combinations(config, trainings, tmp_path, capsys):
    config.sweep.grid = str(
        {
            "model.stochastic_depth": (0.2, 0.0),
            "input.transform": ("resize|flip_lr", "resize"),
            "schedule.base": (0.01, 0.003),
        }
    )
    seen = []

    def accuracy(of_trial):
        seen.append((of_trial.model.stochastic_depth, of_trial.input.transform))
        best = ((0.2, "resize"), 0.003)
        return 0.9 if (seen[-1], of_trial.schedule.base) == best else 0.1

    trainings.accuracy = accuracy
    sweep.run(config, str(tmp_path), "sweep")
    crops = [(depth, crop) for depth in (0.0, 0.2) for crop in ("resize|flip_lr", "resize")]
    assert seen == [crop for crop in crops for _ in range(2)] + [(0.2, "resize")] * 2
    assert [rate for rate, *_ in trainings.trained] == [0.003, 0.01] * 4 + [0.003] * 2
    chosen = {
        "model.stochastic_depth": 0.2,
        "input.transform": "resize",
        "learning_rate": 0.003,
    }
    assert results_of(tmp_path)["metrics"].items() > chosen.items()
    choice = json.loads((tmp_path / "choice.json").read_text())
    assert choice.items() > chosen.items() and len(choice["dev/top1"]) == 8
    assert choice["dev/top1"][6] == [0.2, "resize", 0.003, 0.9]
    name = "whole_model.stochastic_depth0.2_input.transform1_rate0.003_seed1"
    assert (tmp_path / "trials" / name / "results.json").exists()
    lines = capsys.readouterr().out.splitlines()
    assert "model.stochastic_depth input.transform learning rate   dev/top1" in lines
    assert "0.2                    resize          0.003           0.9000 *" in lines


def test_a_sweep_begun_with_rates_is_resumed(config, trainings, tmp_path):
    trainings.stop_at = 2
    config.sweep.grid = "{'schedule.base': (0.003, 0.01, 0.03)}"
    sweep.run(config, str(tmp_path), "sweep")
    file = tmp_path / "config.json"
    before = json.loads(file.read_text())
    del before["sweep"]["grid"]
    before["sweep"]["rates"] = [0.003, 0.01, 0.03]
    file.write_text(json.dumps(before))
    config.sweep.grid = "{'schedule.base': (0.003, 0.01)}"
    with pytest.raises(errors.BadInput, match=r"config.sweep.grid: .*0.03\)}\" -> "):
        sweep.run(config, str(tmp_path), "sweep")
    config.sweep.grid = "{'schedule.base': (0.003, 0.01, 0.03)}"
    sweep.run(config, str(tmp_path), "sweep")
    assert [rate for rate, *_ in trainings.trained] == [0.003, 0.01, 0.01, 0.03, 0.01, 0.01]
    assert "rates" not in json.loads(file.read_text())["sweep"]


@pytest.mark.parametrize(
    "key, value, message",
    [
        (
            "grid",
            "{'schedule.base': (0.1, 0.1)}",
            "grid: schedule.base=(0.1, 0.1): expected one or more distinct values",
        ),
        ("grid", "{'schedule.base': ('a',)}", "'a': expected a value of the type of the"),
        ("grid", "{'schedule.base': (-1.0,)}", "sweep.grid: schedule.base=-1.0: expected 0 <="),
        ("grid", "{'schedule.base': ()}", "schedule.base=(): expected one or more distinct"),
        ("grid", "{'schedule.base': (0.1)}", "a single value takes a comma, (0.003,)"),
        ("grid", "schedule.base=0.1", "expected the values of each key, such as {'schedule.base'"),
        ("grid", "", "needs config.sweep.grid, .train and .dev: use configs/sweep.py. Without all"),
        (
            "grid",
            "{'lr': (0.1,)}",
            'lr is not a key. Did you mean "schedule.base" (the learning rate after warm-up)?',
        ),
        ("grid", "{'model': (1,)}", "config.sweep.grid: model is not a key"),
        (
            "grid",
            "{'runtime.threads': (1, 2)}",
            "runtime.threads cannot be varied: it does not",
        ),
        ("grid", "{'run': ('plan',)}", "run cannot be varied: each trial of a sweep is a"),
        (
            "grid",
            "{'sweep.seeds': ((1,),)}",
            "sweep.seeds cannot be varied: it configures",
        ),
        ("grid", "{'seed': (1, 2)}", "the seeds are those of config.sweep.seeds"),
        (
            "grid",
            "{'schedule.base': (0.1,), 'evaluators.test.every': ('1 steps',)}",
            "evaluators.test.every cannot be varied: a training with the other options given does",
        ),
        ("grid", "{'mixup': (0.0, -1.0)}", "config.mixup=-1.0"),
        ("seeds", (), "config.sweep.seeds=(): expected one or more"),
        ("machine", 1, "config.sweep.machine=1: expected 0 <= sweep.machine < 1"),
        ("machines", 0, "config.sweep.machines=0: expected 1 or more"),
        ("train", "trian", "trian"),
        ("dev", "test[:2", "test[:2"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_written(
    config, tmp_path, key, value, message
):
    config.sweep[key] = value
    with pytest.raises(errors.BadInput) as caught:
        sweep.run(config, str(tmp_path / "out"), "sweep")
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_missing_test_split_is_found_before_the_choice(config, tmp_path):
    config.evaluators.test.split = "tset"
    with pytest.raises(errors.BadInput, match="tset"):
        sweep.run(config, str(tmp_path / "out"), "sweep")
    config.evaluators.test.split = ""
    with pytest.raises(errors.BadInput, match="config.evaluators.test does not measure top1"):
        sweep.run(config, str(tmp_path / "out"), "sweep")


def test_vtab_sweeps_each_task_and_gives_the_score(trainings, tmp_path, monkeypatch):
    config = vtab_recipe.get_config("Mixer-S/16,32", "vtab")
    config.model.update(TINY)
    config.init_from = "random"
    config.batch_size = config.evaluators.test.batch_size = config.evaluators.dev.batch_size = 16
    config.vtab.tasks = ("svhn", "dmlab")
    config.sweep.machines = 2
    config.runtime.data_dir = str(tmp_path / "data")
    for name in config.vtab.tasks:
        stand_ins.small_task(monkeypatch, name, tmp_path / "data")
    for number in (0, 1, 0, 1):
        config.sweep.machine = number
        vtab.run(config, str(tmp_path / "out"), "vtab")
    assert len(trainings.trained) == len(set(trainings.trained)) == 2 * (3 + 3)
    assert {split for *_, split in trainings.trained} == {"train800", "train1000"}
    metrics = results_of(tmp_path / "out")["metrics"]
    assert metrics["vtab/svhn"] == metrics["vtab/dmlab"] == pytest.approx(0.02)
    assert metrics["vtab/mean"] is None  # of all 19 or not at all
    assert results_of(tmp_path / "out" / "dmlab")["metrics"]["learning_rate"] == 0.01


def test_vtab_takes_each_tasks_size_and_crops():
    config = vtab_recipe.get_config("Mixer-S/16", "vtab")
    found = sweeps_of(config)
    assert list(found) == list(TASKS) and found["svhn"].image_size == (224, 224)
    for name, of_task in found.items():
        alone = vtab_recipe.get_config(f"Mixer-S/16,{name}")
        assert of_task.image_size == alone.image_size, name
        assert of_task.input.transform == alone.input.transform and of_task.run == "sweep"
    config.vtab.with_96 = True
    assert sweeps_of(config)["smallnorb_azimuth"].image_size == (224, 224)
    config.vtab.resolution = 64
    assert sweeps_of(config)["dmlab"].image_size == (64, 64)
    config = vtab_recipe.get_config("Mixer-S/16,64", "vtab")
    assert {of_task.image_size for of_task in sweeps_of(config).values()} == {(64, 64)}


@pytest.mark.parametrize(
    "changed", [{"image_size": (224, 224)}, {"input": {"transform": "resize|flip_lr"}}]
)
def test_vtab_refuses_keys_that_each_task_sets(changed):
    config = vtab_recipe.get_config("Mixer-S/16", "vtab")
    config.update(changed)
    message = r"config\.(image_size|input\.transform)=.*for each task"
    with pytest.raises(errors.BadInput, match=message):
        sweeps_of(config)


def test_vtab_does_not_vary_keys_that_each_task_sets():
    config = vtab_recipe.get_config("Mixer-S/16", "vtab")
    config.sweep.grid = "{'schedule.base': (0.1,), 'input.transform': ('resize',)}"
    with pytest.raises(errors.BadInput, match="input.transform cannot be varied: .*for each task"):
        sweeps_of(config)


SHORT = (
    *(f"--config.model.{field}={size}" for field, size in TINY.items()),
    "--config.total=20 steps",
    "--config.evaluators.dev.every=20 steps",
    "--config.evaluators.test.every=20 steps",
    "--config.optimizer.name=sgd(momentum=0.9, accumulator_dtype='bfloat16')",
    "--config.sweep.grid={'schedule.base': (0.03, 0.3)}",
    "--config.sweep.seeds=(0,)",
)


@pytest.mark.long
def test_killed_twice_it_gives_the_same_table(data_dir, tmp_path):
    words = "configs/sweep.py:Mixer-S/16,digits,16,smoke"

    def kill(when):
        process = start(data_dir, words, tmp_path / "killed", *SHORT)
        end = time.monotonic() + 120
        while not when():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end, "timed out"
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate()

    trials = tmp_path / "killed" / "trials"
    kill(lambda: (trials / "without_dev_rate0.3_seed0" / "checkpoints" / "5").exists())
    kill(lambda: any(trials.glob("whole_*_seed0/checkpoints/5")))
    code, out, err = run(data_dir, words, tmp_path / "killed", *SHORT)
    assert code == 0, err
    assert "resuming from step" in out and out.count("trial ") == 1
    code, whole, err = run(data_dir, words, tmp_path / "whole", *SHORT)
    assert code == 0, err
    table = slice(whole.index("learning rate "), whole.index("done: "))
    assert whole[table] in out
    killed, undisturbed = (results_of(tmp_path / name)["metrics"] for name in ("killed", "whole"))
    assert killed == undisturbed and killed["seeds"] == 1
