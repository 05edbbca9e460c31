"""Replayed steps of a training: the examples, their losses, and when examples were seen."""

import csv
import hashlib
import json
import random
import shutil
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from runs_command import run, start

from configs import finetune, groups, quickstart
from configs import folder as folder_recipe
from mixer import calls
from mixer.batch import to_model_input
from mixer.data import randaugment, resizing
from mixer.errors import BadInput
from mixer.models import registry
from mixer.runs import keys, replay, sweep, train
from mixer.runs.evaluations import keep_evaluators
from mixer.runs.reader import Reader
from mixer.runs.training import build_training
from mixer.training.mixing import Mixing, mix
from mixer.training.step import draw_of
from mixer.weights.pretrained import load_pretrained

TRAINING = {
    "input.transform": "inception_crop(area=(20, 100))|flip_lr|randaug(2, 10)",
    "input.fraction": 0.05,  # 72 images
    "batch_size": 16,
    "total": "12 steps",
    "schedule.warmup": "2 steps",
    "mixup": 0.3,
    "cutmix": 1.0,
    "model.num_blocks": 1,
    "model.hidden_dim": 16,
    "model.dropout": 0.2,
    "runtime.log_every": "1 steps",
    "runtime.checkpoint_every": "5 steps",
}


def trained(path, changes=()):
    config = quickstart.get_config()
    del config.evaluators.test
    config.update_from_flattened_dict(TRAINING | dict(changes))
    config = keys.track(config)
    assert config.run == "train"  # read by main.py
    train.run(config, str(path), "quickstart")
    return path


def sha256(image):
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()


@pytest.fixture(scope="module")
def training(data_dir, tmp_path_factory):
    """The workdir of a complete training, and the images that each step received."""
    consumed, put = [], Reader.put

    def spy(self, rows):
        consumed.append([sha256(image) for image in rows["image"]])
        return put(self, rows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Reader, "put", spy)
        path = trained(tmp_path_factory.mktemp("replay") / "train")
    kept = sorted(int(p.name) for p in (path / "checkpoints").iterdir() if p.name.isdigit())
    assert kept == [10, 12] and len(consumed) == 12
    return path, consumed


def replayed(source, output, changes=(), given=(), recipe=None):
    """results.json's metrics; `given` as if on the command line."""
    config = recipe or quickstart.get_config()
    config.run, config.init_from = "replay", str(source)
    groups.add(config, "replay")
    config.update_from_flattened_dict(dict(changes) | dict(given))
    by_hand = {f"--config.{key}={value}": (key,) for key, value in dict(given).items()}
    config = keys.track(config, by_hand)
    assert config.run == "replay"
    replay.run(config, str(output), "quickstart")
    return json.loads((output / "results.json").read_text())["metrics"]


def lines_of(output, step):
    with (output / "steps" / f"{step}.csv").open() as file:
        return list(csv.DictReader(file))


def losses(source):
    lines = [json.loads(line) for line in (source / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["train/loss"] for line in lines if "train/loss" in line}


@pytest.fixture(scope="module")
def exact(training, tmp_path_factory):
    """Steps before and after the first checkpoint that is kept."""
    output = tmp_path_factory.mktemp("exact") / "replay"
    return output, replayed(
        training[0], output, {"replay.steps": "3, 6-7, 11-12", "replay.exact": True}
    )


def test_the_pixels_and_the_losses_are_those_of_the_training(training, exact):
    source, consumed = training
    output, metrics = exact
    logged = losses(source)
    for step in (3, 6, 7, 11, 12):
        assert [line["sha256"] for line in lines_of(output, step)] == consumed[step - 1]
        assert metrics[f"replay/{step}/loss"] == logged[step]
        assert metrics[f"replay/{step}/logged_loss"] == logged[step]
        assert (output / "steps" / f"{step}.png").stat().st_size > 1000


def test_the_recorded_operations_reproduce_the_pixels(training, exact):
    source, output = training[0], exact[0]
    reader = build_training(_config_of(source)).reader
    told = lines_of(output, 7)
    assert {line["flipped"] for line in told} == {"True", "False"}
    for line in told:
        example = reader.source[int(line["index"])]
        image = reader.rows.opened(example["image"], 0)
        image = image if isinstance(image, np.ndarray) else image.pixels()
        top, left, height, width = (int(line[k]) for k in ("top", "left", "height", "width"))
        image = image[top : top + height, left : left + width]
        image = resizing.resize_bilinear(image, 24, 24)
        image = image[:, ::-1] if line["flipped"] == "True" else image
        for call in line["operations"].split(" | "):
            name, _, arguments = calls.parse(call)
            image = getattr(randaugment, name)(np.ascontiguousarray(image), **arguments)
        assert sha256(image) == line["sha256"]
        assert line["label"] == reader.source.classes[example["label"]]
        assert reader.source.where(int(line["index"])) == line["where"]


def _config_of(source):
    config = quickstart.get_config()
    del config.evaluators.test
    config.update_from_flattened_dict(TRAINING)
    return config


def test_the_order_is_searched_to_the_end(training, tmp_path, capsys):
    source = training[0]
    order = build_training(_config_of(source)).reader.rows.order
    metrics = replayed(source, tmp_path / "out", {"replay.examples": "17, 3"})
    with (tmp_path / "out" / "examples.csv").open() as file:
        found = list(csv.DictReader(file))
    for index in (17, 3):
        counters = [g for g in range(12 * 16) if order[g] == index]
        places = [(g // 16 + 1, g % 16) for g in counters]
        assert len(places) in (2, 3) and metrics[f"replay/example/{index}/times"] == len(places)
        mine = [(int(f["step"]), int(f["row"])) for f in found if f["index"] == str(index)]
        assert mine == places
        assert f"step {places[0][0]} row {places[0][1]}" in capsys.readouterr().out or index == 3


def test_each_rows_numbers_are_at_the_nearest_checkpoint(training, tmp_path, capsys):
    source = training[0]
    given = {"runtime.threads": 1}  # of this machine
    metrics = replayed(source, tmp_path / "out", {"replay.steps": "11, 2"}, given)
    out = capsys.readouterr().out
    assert "at the checkpoint of step 10\n" in out
    assert "at the checkpoint of step 10, which is later: no earlier one is kept" in out
    assert "step 11: CutMix lambda " in out and "] of the row before; loss and" in out
    assert metrics["replay/11/loss"] is None
    card = json.loads((source / "config.json").read_text())["model"]
    fields = {k: v for k, v in card.items() if k not in ("name", "num_classes")}
    model = registry.create_model(card["name"], num_classes=10, **fields)
    params = load_pretrained(str(source), model, step=10)
    config = _config_of(source)
    with build_training(config).reader.batches(10, 11) as batches:
        batch = jax.device_get(next(batches))
    for line in lines_of(tmp_path / "out", 11)[::5]:
        row = int(line["row"])

        def loss(params, row=row):
            logits = model.apply({"params": params}, to_model_input(batch["image"][row : row + 1]))
            return -jax.nn.log_softmax(logits)[0, batch["label"][row]]

        value, grads = jax.value_and_grad(loss)(params)
        assert float(line["loss"]) == pytest.approx(float(value), rel=1e-4)
        assert float(line["grad_norm"]) == pytest.approx(float(optax.tree.norm(grads)), rel=1e-3)


def test_what_is_told_of_mixing_mixes_as_the_step_does(training, exact):
    """In a batch of a black and a white image: the white one's pixels and its share in itself."""
    mixing, kinds = build_training(_config_of(training[0])).update.mixing, set()
    assert mixing == Mixing(0.3, 1.0, 0.5)
    for number in (3, 6, 7, 11, 12):
        told = {
            key.rpartition("/")[2]: value
            for key, value in exact[1].items()
            if key.startswith(f"replay/{number}/")
        }
        images = jnp.stack([jnp.zeros((24, 24, 3)), jnp.ones((24, 24, 3))])
        draw = draw_of(mixing, 0, number - 1, (24, 24))
        (_, mixed), (_, target) = mix(draw, images, jnp.eye(2))
        assert told["lambda"] == pytest.approx(float(target[1]), abs=1e-6)
        assert told["lambda"] == pytest.approx(float(mixed.mean()), abs=1e-4)
        kinds.add(told["cutmix"])
        if told["cutmix"]:
            top, left, tall, wide = (
                int(told[f"box_{name}"]) for name in ("top", "left", "height", "width")
            )
            assert not mixed[top : top + tall, left : left + wide].any()
            assert mixed.sum() == 3 * (24 * 24 - tall * wide)
        else:
            assert (mixed == mixed[0, 0, 0]).all() and "box_top" not in told
    assert kinds == {0.0, 1.0}


@pytest.mark.parametrize(
    ("changes", "given", "message"),
    [
        ({}, {}, "steps and config.replay.examples are empty"),
        ({"replay.steps": "0"}, {}, "'0' is not a step of 1 to 12"),
        ({"replay.steps": "4, 11-13"}, {}, "'11-13' is not a step of 1 to 12"),
        ({"replay.steps": "a"}, {}, "'a' is not a step"),
        ({"replay.examples": "72"}, {}, "'72': no such example: expected an index of 0 to 71"),
        ({"replay.examples": "no.png"}, {}, "0 examples have that name"),
        ({"replay.steps": "1", "replay.rows": 0}, {}, "config.replay.rows=0"),
        ({"replay.steps": "1"}, {"mixup": 0.5}, "config.mixup=0.3 from"),
        ({"replay.steps": "1"}, {"mixup_switch_prob": 0.1}, "config.mixup_switch_prob=0.5 from"),
        ({"replay.steps": "1"}, {"model.dropout": 0.5}, "config.model.dropout=0.2 from"),
        ({"replay.steps": "1"}, {"runtime.profile": "1-2"}, "config.runtime.profile=''"),
    ],
)
def test_invalid_requests_are_refused(changes, given, message, training, tmp_path):
    with pytest.raises(BadInput, match=message):
        replayed(training[0], tmp_path / "out", changes, given)
    assert not (tmp_path / "out").exists()


def test_other_workdirs_and_other_data_are_refused(training, tmp_path):
    steps = {"replay.steps": "1"}
    with pytest.raises(BadInput, match="needs --config.init_from=WORKDIR"):
        replayed("", tmp_path / "out", steps)
    with pytest.raises(BadInput, match="no config.json"):
        replayed(tmp_path, tmp_path / "out", steps)
    other = tmp_path / "other"
    other.mkdir()
    recorded = json.loads((training[0] / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({"run": "evaluate"}))
    with pytest.raises(BadInput, match="config.run=evaluate: expected the workdir of a training"):
        replayed(other, tmp_path / "out", steps)
    without = {k: v for k, v in recorded.items() if k not in ("cutmix", "mixup_switch_prob")}
    (other / "config.json").write_text(json.dumps(without))
    with pytest.raises(BadInput, match="config.cutmix=0.0 from"):  # it is older than CutMix
        replayed(other, tmp_path / "out", steps, {"cutmix": 1.0})
    shutil.copytree(training[0] / "checkpoints", other / "checkpoints")
    recorded["input"]["fraction_seed"] = 1
    (other / "config.json").write_text(json.dumps(recorded))
    with pytest.raises(BadInput, match="are not those that .* was trained on"):
        replayed(other, tmp_path / "out", steps)
    assert not (tmp_path / "out").exists()


def test_a_key_of_another_run_is_refused(training, tmp_path):
    config = quickstart.get_config()
    groups.add(config, "contact_sheet")
    with pytest.raises(BadInput, match="does not read it"):
        replayed(training[0], tmp_path / "out", {"replay.steps": "1"}, {"sheet": 3}, config)


def test_several_processes_are_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(replay.peers, "count", lambda: 2)
    with pytest.raises(BadInput, match="takes one process"):
        config = keys.track(quickstart.get_config(run="replay"))
        replay.run.__wrapped__(config, tmp_path / "out", "")


def folder_training(path, images, changes=()):
    config = folder_recipe.get_config(f"folder:{images},16,smoke")
    del config.evaluators.test, config.evaluators.dev
    config.update_from_flattened_dict(TINY | {"dataset": f"folder:{images}"} | dict(changes))
    config = keys.track(config)
    assert config.run == "train"
    train.run(config, str(path), "folder")


TINY = {
    "image_size": (16, 16),
    "total": "4 steps",
    "model.num_blocks": 1,
    "model.hidden_dim": 8,
    "model.tokens_mlp_dim": 8,
    "model.channels_mlp_dim": 8,
    "runtime.log_every": "1 steps",
    "runtime.checkpoint_every": "2 steps",
    "input.split": "train",
}


def test_a_moved_folder_with_an_unreadable_file(image_folder, data_dir, tmp_path, capsys):
    bad = image_folder / "train" / "dog" / "3.png"
    bad.write_bytes(b"none")
    source = tmp_path / "train"
    folder_training(source, image_folder, {"input.on_bad": "skip", "total": "10 steps"})
    moved = image_folder.rename(tmp_path / "moved")
    steps = {"replay.steps": "1-9", "replay.examples": "cat/7.png, dog/3.png"}
    with pytest.raises(BadInput, match="images"):
        replayed(source, tmp_path / "out", steps)
    capsys.readouterr()
    there = {"dataset": f"folder:{moved}"}
    metrics = replayed(source, tmp_path / "out", steps, there)
    out = capsys.readouterr().out
    rows = [line for step in range(1, 10) for line in lines_of(tmp_path / "out", step)]
    instead = [row for row in rows if row["instead_of"]]
    assert instead and all(row["instead_of"].endswith("dog/3.png") for row in instead)
    assert not any(row["where"].endswith("dog/3.png") for row in rows)
    assert out.count("dog/3.png cannot be read: skipped") == len(instead)
    with (tmp_path / "out" / "examples.csv").open() as file:
        seen = [(f["step"], f["row"]) for f in csv.DictReader(file) if int(f["step"]) < 10]
    mine = [
        (str(step), line["row"])
        for step in range(1, 10)
        for line in lines_of(tmp_path / "out", step)
        if line["where"].endswith("cat/7.png")
    ]
    assert seen == mine and mine
    times = {k: v for k, v in metrics.items() if k.startswith("replay/example/")}
    assert sorted(times.values())[0] == 0 and len(times) == 2
    with pytest.raises(BadInput, match="'7.png': 2 examples have that name"):
        replayed(source, tmp_path / "no", {"replay.examples": "7.png"}, there)


@pytest.mark.long
def test_a_fine_tuning_needs_its_init_from_only_for_steps_before_its_checkpoints(
    training, image_folder, tmp_path
):
    upstream = tmp_path / "upstream"
    shutil.copytree(training[0], upstream)
    source = tmp_path / "train"
    config = finetune.get_config(f"folder:{image_folder},24,smoke")
    keep_evaluators(config, ())
    config.model.update(json.loads((upstream / "config.json").read_text())["model"])
    config.update_from_flattened_dict(
        {
            "init_from": str(upstream),
            "dataset": f"folder:{image_folder}",
            "total": "6 steps",
            "schedule.warmup": "1 steps",
            "runtime.log_every": "1 steps",
            "runtime.checkpoint_every": "2 steps",
        }
    )
    config = keys.track(config)
    assert config.run == "train"
    train.run(config, str(source), "finetune")
    asked = {"replay.exact": True, "replay.steps": "2"}
    metrics = replayed(source, tmp_path / "first", asked)
    assert metrics["replay/2/loss"] == losses(source)[2]
    shutil.rmtree(upstream)
    metrics = replayed(source, tmp_path / "later", asked | {"replay.steps": "5-6"})
    assert [metrics[f"replay/{n}/loss"] for n in (5, 6)] == [losses(source)[n] for n in (5, 6)]
    with pytest.raises(BadInput, match="not the workdir of a training run"):
        replayed(source, tmp_path / "no", asked)


KILLED = (
    "--config.total=60 steps",
    "--config.schedule.warmup=10 steps",
    "--config.batch_size=16",
    "--config.model.num_blocks=2",
    "--config.model.dropout=0.1",
    "--config.mixup=0.3",
    "--config.ema_decay=0.9",
    "--config.input.transform=inception_crop(area=(50, 100))|flip_lr|randaug(2, 10)",
    "--config.evaluators.test.split=",
    "--config.runtime.log_every=1 steps",
    "--config.runtime.checkpoint_every=9 steps",
)


@pytest.mark.long(minutes=2)
def test_twenty_steps_of_a_run_killed_three_times(data_dir, tmp_path):
    source, recipe = tmp_path / "killed", "configs/quickstart.py"
    seed = time.time_ns()
    dice = random.Random(seed)
    print("seed of the kills and the steps:", seed)  # shown if the test fails
    for lines in sorted(dice.sample(range(4, 50), 3)):
        process = start(data_dir, recipe, source, *KILLED)
        began, end = time.time_ns(), time.monotonic() + 120
        log = source / "metrics.jsonl"
        # A line of the previous session does not count: this one must have started.
        while not (
            log.exists()
            and log.stat().st_mtime_ns > began
            and len(log.read_text().splitlines()) >= lines
        ):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end
            time.sleep(0.002)
        process.kill()
        process.communicate()
        assert not (source / "results.json").exists()
    code, _, err = run(data_dir, recipe, source, *KILLED)
    assert code == 0, err
    steps = sorted(dice.sample(range(1, 61), 20))
    output = tmp_path / "replay"
    code, out, err = run(
        data_dir,
        recipe,
        output,
        "--config.run=replay",
        f"--config.init_from={source}",
        f"--config.replay.steps={','.join(map(str, steps))}",
        "--config.replay.exact=True",
    )
    assert code == 0, err
    assert out.count("bitwise equal") == 20 and "NOT equal" not in out
    metrics = json.loads((output / "results.json").read_text())["metrics"]
    logged = losses(source)
    assert [metrics[f"replay/{n}/loss"] for n in steps] == [logged[n] for n in steps]
    undisturbed = quickstart.get_config()
    for flag in KILLED:
        key, _, value = flag.removeprefix("--config.").partition("=")
        kind = type(keys.flat(undisturbed.to_dict())[key])
        undisturbed.update_from_flattened_dict({key: kind(value)})
    with build_training(undisturbed).reader.batches(0, 60) as batches:
        images = [np.asarray(batch["image"]) for batch in batches]
    for n in steps:
        hashes = [sha256(image) for image in images[n - 1]]
        assert [line["sha256"] for line in lines_of(output, n)] == hashes


@pytest.mark.long
def test_a_trial_of_a_sweep_is_a_training(data_dir, tmp_path):
    from configs import sweep as sweep_recipe

    config = sweep_recipe.get_config("Mixer-S/16,digits,16,smoke")
    config.update_from_flattened_dict({k: v for k, v in TINY.items() if k.startswith("model.")})
    config.runtime.log_every = "1 steps"
    config = keys.track(config)
    assert config.run == "sweep"
    sweep.run(config, str(tmp_path / "sweep"), "sweep")
    trials = sorted((tmp_path / "sweep" / "trials").iterdir())
    assert len(trials) == 4
    for trial in trials:
        asked = {"replay.exact": True, "replay.steps": "2, 10"}
        metrics = replayed(trial, tmp_path / "out" / trial.name, asked)
        for number in (2, 10):
            assert metrics[f"replay/{number}/loss"] == losses(trial)[number]
    with pytest.raises(BadInput, match="config.run=sweep: expected the workdir of a training"):
        replayed(tmp_path / "sweep", tmp_path / "no", {"replay.steps": "1"})
