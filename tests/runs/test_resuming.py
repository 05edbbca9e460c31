"""What may change when a run is resumed: nothing that affects numbers already recorded."""

import json
import re
import shutil

import pytest

from configs import folder as folder_recipe
from mixer import evaluation, register_evaluator
from mixer.data.pipeline import BadExample
from mixer.errors import BadInput, Failure
from mixer.runs import keys, resuming, train
from mixer.runs.training import build_training
from mixer.signals import StopSignal
from mixer.training.patience import Patience

pytestmark = pytest.mark.usefixtures("one_device")

OLD = {
    "run": "train",
    "total": "10 steps",
    "batch_size": 8,
    "best": "",
    "dataset": "folder:/a",
    "input.on_bad": "error",
    "input.max_pixels": 100,
    "schedule.decay": "linear",
    "schedule.cooldown": "0 steps",
    "runtime.threads": 0,
    "evaluators.test.split": "test",
    "evaluators.test.transform": "resize",
}
CONSTANT = {"schedule.decay": "constant"}


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ({}, {"runtime.threads": 3}, ""),
        ({"writers": "tensorboard"}, {"writers": "wandb,mlflow"}, ""),
        ({}, {"input.on_bad": "skip"}, "config.input.on_bad: 'error' -> 'skip'"),
        ({}, {"input.max_pixels": 101}, "config.input.max_pixels: 100 -> 101"),
        ({}, {"evaluators.test.transform": "x"}, "evaluators.test.transform: 'resize' -> 'x'"),
        ({}, {"evaluators.test.views": "flip"}, "evaluators.test.views: 'absent' -> 'flip'"),
        ({}, {"evaluators.test.views": ""}, ""),
        ({}, {"evaluators.new.split": "a", "evaluators.new.every": "b"}, "evaluators.new.split"),
        ({}, {"evaluators.new.split": "", "evaluators.new.every": "b"}, ""),
        ({}, {"dataset": "folder:/b"}, "config.dataset: 'folder:/a' -> 'folder:/b'"),
        (
            {"dataset": "parquet:/a"},
            {"dataset": "parquet:/b"},
            "config.dataset: 'parquet:/a' -> 'parquet:/b'",
        ),
        (CONSTANT, {"total": "20 steps"}, "config.total: '10 steps' -> '20 steps'"),
        (
            {"schedule.decay": "rsqrt"},
            {"total": "20 steps"},
            "config.total: '10 steps' -> '20 steps'",
        ),
        (CONSTANT, {"schedule.cooldown": "4 steps"}, "schedule.cooldown: '0 steps' -> '4 steps'"),
        (
            CONSTANT | {"schedule.cooldown": "4 steps"},
            {"total": "80 examples", "schedule.cooldown": "3 steps"},
            "schedule.cooldown: '4 steps' -> '3 steps'",
        ),
        (
            CONSTANT | {"schedule.cooldown": "2 steps", "total": "30 epochs"},
            {"runtime.threads": 1},
            "",
        ),
        ({"best": "dev_ema/top1"}, {"evaluators.test.split": "dev"}, "evaluators.test.split"),
        ({"best": "a/1shot"}, {"best": "test/top1"}, "config.best: 'a/1shot' -> 'test/top1'"),
        ({"patience": 3}, {"patience": 4}, "config.patience: 3 -> 4"),
        ({"patience": 3}, {"patience": 0}, "config.patience: 3 -> 0"),
        ({"patience": 0}, {"patience": 2}, "config.patience: 0 -> 2"),
    ],
)
def test_changes_that_keep_all_numbers_are_accepted_and_printed(before, after, said, capsys):
    old = OLD | before
    resuming.check_config("runs/a", old, old | after, complete=False, done=6)
    out = capsys.readouterr().out
    assert said in out and bool(out) == bool(said)
    assert len(out.splitlines()) <= len(after)


def test_evaluators_that_a_run_never_reads_may_differ():
    old = {"run": "prepare", "prepare.name": "mine"}
    resuming.check_config("runs/a", old, old | {"evaluators.test.split": "x"}, complete=False)
    with pytest.raises(BadInput, match="evaluators.test.split: 'absent' -> 'x'"):
        sweep = old | {"run": "sweep"}
        resuming.check_config(
            "runs/a", sweep, sweep | {"evaluators.test.split": "x"}, complete=False
        )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"batch_size": 16}),
        ({}, {"total": "20 steps"}),
        (CONSTANT, {"total": "5 steps"}),
        (CONSTANT, {"total": "20 epochs"}),
        ({"run": "sweep"}, {"evaluators.test.split": "dev"}),
        ({"run": "sweep"}, {"dataset": "folder:/b"}),
        ({}, {"dataset": "parquet:/a"}),
        (CONSTANT | {"schedule.cooldown": "5 steps"}, {"total": "20 steps"}),  # begun at 5
        (CONSTANT, {"schedule.cooldown": "5 steps"}),  # would have begun at 5
        (CONSTANT, {"schedule.cooldown": "1 epochs"}),
        ({}, {"schedule.cooldown": "2 steps"}),
        ({"input.on_bad": "skip"}, {"input.on_bad": "error"}),
        ({"input.on_bad": "skip"}, {"input.max_pixels": 101}),
        ({}, {"input.max_pixels": 99}),
        ({}, {"dataset": "digits"}),
        ({"best": "test_ema/top1"}, {"evaluators.test.split": "dev"}),
        ({"patience": 3}, {"patience": 2}),
    ],
)
def test_another_run_is_refused(before, after):
    old = OLD | before
    (key, value) = next(iter(after.items()))
    with pytest.raises(BadInput, match=f"config.{key}: {old[key]!r} -> {value!r}"):
        resuming.check_config("runs/a", old, old | after, complete=False, done=6)


def test_a_run_begun_before_a_key_existed_has_the_value_that_means_what_it_did():
    for key, before in resuming._SINCE.items():
        resuming.check_config("runs/a", OLD, OLD | {key: before}, complete=False)
        changed = f"not {before}"
        said = re.escape(f"config.{key}: {before!r} -> {changed!r}")
        with pytest.raises(BadInput, match=said):
            # A complete one: others may change their `patience`.
            resuming.check_config("runs/a", OLD, OLD | {key: changed}, complete=True)


def test_a_folder_of_one_kind_of_run_is_not_another_kinds():
    said = "^--workdir=runs/a has the output of config.run=train, and this is config.run=evaluate: "
    with pytest.raises(BadInput, match=said):
        other = OLD | {"run": "evaluate", "total": "1 epochs"}
        resuming.check_config("runs/a", OLD, other, complete=True)


def test_nothing_may_change_in_a_complete_run():
    with pytest.raises(BadInput, match="which is complete. To train longer, start from it"):
        resuming.check_config("runs/a", OLD, OLD | {"input.on_bad": "skip"}, complete=True)
    resuming.check_config("runs/a", OLD, OLD | {"runtime.threads": 3}, complete=True)


def recipe(root, **changes):
    config = folder_recipe.get_config(f"folder:{root},32,smoke")
    config.dataset, config.batch_size = f"folder:{root}", 8
    config.model.update(num_blocks=1, hidden_dim=8, tokens_mlp_dim=8, channels_mlp_dim=8)
    config.evaluators.test.update(split="test", transform="resize", every="2 steps", batch_size=16)
    config.evaluators.dev.split = ""
    config.runtime.checkpoint_every = "100 steps"
    for key, value in changes.items():
        config[key].update(value) if isinstance(value, dict) else config.update({key: value})
    return config


def session(config, path):
    with StopSignal() as stop:
        train.train(keys.track(config), str(path), "folder", stop, {})


def steps_measured(path):
    lines = map(json.loads, (path / "metrics.jsonl").read_text().splitlines())
    return [line["step"] for line in lines if any(key.startswith("test/") for key in line)]


def test_an_unreadable_test_image_is_found_before_training(image_folder, data_dir, tmp_path):
    (image_folder / "test" / "dog" / "bad.png").write_bytes(b"\0")
    with pytest.raises(BadInput, match=r"evaluators.test: .*bad.png.*config.input.on_bad=skip"):
        session(recipe(image_folder), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_unreadable_training_image_can_be_skipped_later(image_folder, data_dir, tmp_path):
    (image_folder / "train" / "dog" / "page.png").write_text("<html>404</html>")
    path = tmp_path / "run"
    with pytest.raises(BadExample, match=r"page.png"):
        session(recipe(image_folder), path)
    session(recipe(image_folder, input={"on_bad": "skip"}), path)
    assert json.loads((path / "results.json").read_text())["skipped_examples"] > 0


def test_a_failing_evaluation_costs_no_step_and_its_evaluator_may_change(
    image_folder, data_dir, tmp_path, capsys
):
    class Broken(evaluation.classification.Classification):
        def summarize(self, collection):
            raise Failure("broken")

    register_evaluator("broken", Broken)
    path, config = tmp_path / "run", recipe(image_folder)
    config.evaluators.test.type = "broken"
    config.evaluators.test.every = "7 steps"
    with pytest.raises(Failure, match="broken"):
        session(config, path)
    capsys.readouterr()
    session(recipe(image_folder), path)
    out = capsys.readouterr().out
    assert "resuming from step 7 of 10" in out
    assert "from here on config.evaluators.test.type: 'broken' -> 'classification'" in out
    assert steps_measured(path) == [8, 10]  # it is no longer due at 7


def stopping_early(root, **changes):
    """Its rate is 0, so top-1 stays what it is at step 2; `late` is due at the last step only."""
    config = recipe(root, best="test/top1", patience=2, total="40 steps", **changes)
    config.schedule.update(base=0.0, end=0.0)
    config.evaluators.late = config.evaluators.test.copy_and_resolve_references()
    config.evaluators.late.every = config.total
    return config


def results_of(path):
    found = json.loads((path / "results.json").read_text())
    names = ("step", "epochs", "ended_early", "metrics")
    return {name: found[name] for name in names}, steps_measured(path)


@pytest.mark.long
def test_a_run_ends_early_where_it_would_have_without_being_killed(
    image_folder, data_dir, tmp_path, capsys
):
    path, killed = tmp_path / "run", tmp_path / "killed"
    session(stopping_early(image_folder), path)
    why = "test/top1 (higher is better) has not improved in 2 evaluations since step 2"
    assert f"ended at step 6 of 40: {why}" in capsys.readouterr().out
    whole, measured = results_of(path)
    assert (whole["step"], whole["epochs"], measured) == (6, 6 * 8 / 35, [2, 4, 6])
    assert whole["ended_early"].startswith(why)
    assert whole["metrics"].keys() >= {"test/top1", "late/top1"}
    session(stopping_early(image_folder), path)
    assert "complete: " in capsys.readouterr().out

    class Broken(evaluation.classification.Classification):
        def summarize(self, collection):
            raise Failure("broken")

    register_evaluator("broken", Broken)
    config = stopping_early(image_folder)
    config.evaluators.late.type = "broken"
    with pytest.raises(Failure, match="broken"):  # the evaluation that ends it is not recorded
        session(config, killed)
    assert steps_measured(killed) == [2, 4]
    session(stopping_early(image_folder), killed)
    assert results_of(killed) == (whole, measured)
    (killed / "results.json").unlink()
    session(stopping_early(image_folder), killed)  # it was over before it was killed
    assert results_of(killed) == (whole, measured)


def test_patience_needs_a_metric(image_folder, data_dir, tmp_path):
    with pytest.raises(BadInput, match="config.patience=2 needs config.best.*test/top1"):
        session(recipe(image_folder, patience=2), tmp_path / "run")
    with pytest.raises(BadInput, match="config.patience=-1: expected 0 or more"):
        session(recipe(image_folder, patience=-1, best="test/top1"), tmp_path / "run")
    with pytest.raises(BadInput, match="config.best 'test/nl'. Did you mean 'test/nll'"):
        session(recipe(image_folder, patience=2, best="test/nl"), tmp_path / "run")
    training = build_training(recipe(image_folder, patience=2, best="test_ema/nll", ema_decay=0.9))
    assert training.patience == Patience("test_ema/nll", 2, higher_is_better=False)


def test_a_run_may_be_extended_at_a_constant_rate_and_its_folder_moved(
    image_folder, data_dir, tmp_path
):
    constant = {"decay": "constant", "warmup": "0 steps"}
    path, moved = tmp_path / "run", tmp_path / "moved"
    session(recipe(image_folder, schedule=constant, total="6 steps"), path)
    (path / "results.json").unlink()  # as if it had been killed before
    shutil.move(image_folder, moved)
    session(recipe(moved, schedule=constant, total="8 steps"), path)
    whole = tmp_path / "whole"
    session(recipe(moved, schedule=constant, total="8 steps"), whole)
    results = [json.loads((p / "results.json").read_text())["metrics"] for p in (path, whole)]
    assert results[0] == results[1]
    (path / "results.json").unlink()
    with pytest.raises(BadInput, match="'8 steps' -> '4 steps'"):
        session(recipe(moved, schedule=constant, total="4 steps"), path)


def test_a_run_that_is_cooled_down_later_is_the_run_that_was_to_be(
    image_folder, data_dir, tmp_path
):
    rsqrt = {"decay": "rsqrt", "timescale": "3 steps", "warmup": "2 steps"}
    cooled = rsqrt | {"cooldown": "3 steps"}
    path, whole = tmp_path / "run", tmp_path / "whole"
    session(recipe(image_folder, schedule=rsqrt, total="6 steps"), path)
    (path / "results.json").unlink()  # as if it had been killed before
    with pytest.raises(BadInput, match="schedule.cooldown: '0 steps' -> '3 steps'"):
        session(recipe(image_folder, schedule=cooled, total="8 steps"), path)  # from step 5 on
    session(recipe(image_folder, schedule=cooled, total="10 steps"), path)
    session(recipe(image_folder, schedule=cooled, total="10 steps"), whole)
    results = [json.loads((p / "results.json").read_text())["metrics"] for p in (path, whole)]
    assert results[0] == results[1]


def test_changed_test_images_are_noticed_even_in_a_moved_folder(image_folder, data_dir, tmp_path):
    path, moved = tmp_path / "run", tmp_path / "moved"
    session(recipe(image_folder), path)
    (path / "results.json").write_text("")  # as a power cut may leave it: not a valid result
    next((image_folder / "test" / "cat").iterdir()).unlink()
    with pytest.raises(BadInput, match=r"11 now.*has measured.*evaluator of another name"):
        session(recipe(image_folder), path)
    shutil.move(image_folder, moved)
    with pytest.raises(BadInput, match=r"moved test \(11 now\).*has measured"):
        session(recipe(moved), path)


def test_a_run_resumes_without_its_init_from_if_the_newest_checkpoint_is_damaged(
    image_folder, data_dir, tmp_path, capsys
):
    first, path = tmp_path / "first", tmp_path / "run"
    session(recipe(image_folder, total="4 steps"), first)
    config = recipe(image_folder, init_from=str(first))
    session(config, path)
    (path / "results.json").unlink()
    shutil.rmtree(first)
    newest = max((path / "checkpoints").iterdir(), key=lambda step: int(step.name))
    (newest / "meta" / "metadata").write_text("{")
    session(recipe(image_folder, init_from=str(first)), path)
    assert "resuming from step 8" in capsys.readouterr().out


def test_data_recorded_by_an_older_version_are_refused(image_folder, data_dir, tmp_path):
    with pytest.raises(BadInput, match="older version of this program"):
        resuming.check_data(tmp_path, None, "0123456789abcdef")
