"""Trainings with a teacher: what they record, how they resume, and what is refused."""

import json
import shutil

import jax
import numpy as np
import pytest

import mixer
from configs import quickstart
from mixer.checkpoint import reading
from mixer.checkpoint.store import Store
from mixer.data.sources.label_kinds import Labels
from mixer.errors import BadInput
from mixer.planning import flops
from mixer.runs import keys, train
from mixer.runs.model import build_model, mesh_of, model_fields
from mixer.runs.plan import planned_step
from mixer.runs.teacher import teacher_of
from mixer.runs.training import build_training
from mixer.signals import StopSignal

pytestmark = pytest.mark.usefixtures("one_device")

SMALL = {"num_blocks": 1, "hidden_dim": 16, "tokens_mlp_dim": 8, "channels_mlp_dim": 16}


def config(run="train", teacher="", **changes):
    found = quickstart.get_config("smoke", run)
    found.model.update(SMALL)
    found.total, found.schedule.warmup = "4 steps", "0 steps"
    found.evaluators.test.split = ""
    found.runtime.checkpoint_every = "2 steps"
    found.distill.teacher = str(teacher)
    for key, value in changes.items():
        found[key].update(value) if isinstance(value, dict) else found.update({key: value})
    return found


DIGITS = tuple("0123456789")


def teaching(asked, kind="class", classes=DIGITS):
    """The teacher, without the rest of the training."""
    fields = model_fields(asked) | {"num_classes": 10}
    model = build_model(fields.pop("name"), fields, asked.image_size)
    return teacher_of(asked, model, asked.image_size, mesh_of(asked), Labels(kind), classes)


def session(asked, path):
    with StopSignal() as stop:
        train.train(keys.track(asked), str(path), "quickstart", stop, {})


@pytest.fixture(scope="module")
def teacher(data_dir, tmp_path_factory):
    """The workdir of a short training on the digits, with averaged parameters."""
    path = tmp_path_factory.mktemp("teacher") / "run"
    session(config(ema_decay=0.9), path)
    return path


@pytest.mark.long
def test_a_distillation_records_its_teacher_and_resumes(teacher, tmp_path, capsys):
    path, moved = tmp_path / "run", tmp_path / "moved"
    student = dict(model={"hidden_dim": 8}, distill={"weight": 1.0, "temperature": 2.0})
    session(config(teacher=teacher, **student), path)
    assert f"teacher: Mixer-S/16 of {teacher}, step 4; temperature 2" in capsys.readouterr().out
    results = json.loads((path / "results.json").read_text())
    assert results["teacher"]["path"] == str(teacher) and results["teacher"]["step"] == 4
    assert results["upstream"] is None
    lines = map(json.loads, (path / "metrics.jsonl").read_text().splitlines())
    assert all(line["train/distill_loss"] > 0 and line["train/agreement"] <= 1 for line in lines)
    wanted, card, _ = reading.read_arrays(str(path), None, "params")
    assert card.model["hidden_dim"] == 8
    with Store(path / "checkpoints", read_only=True) as store:
        assert set(store.meta(4)["checksums"]) == {"params", "opt_state"}

    def killed():
        (path / "results.json").unlink()
        shutil.rmtree(path / "checkpoints" / "4", ignore_errors=True)

    killed()
    shutil.copytree(teacher, moved)
    session(config(teacher=moved, **student), path)
    assert f"config.distill.teacher: '{teacher}' -> '{moved}'" in capsys.readouterr().out
    found, _, _ = reading.read_arrays(str(path), None, "params")
    jax.tree.map(np.testing.assert_array_equal, found, wanted)
    killed()
    shutil.rmtree(moved / "checkpoints" / "4")
    with pytest.raises(
        BadInput, match=r"trained with .* \(step 4, .*has .* \(step 2, .*same again"
    ):
        session(config(teacher=moved, **student), path)
    with pytest.raises(BadInput, match="config.distill.weight: 1.0 -> 0.2"):
        session(config(teacher=moved, **student | {"distill": {"weight": 0.2}}), path)


def test_any_weights_may_teach_at_the_students_size(teacher, capsys):
    asked = lambda **changes: teaching(config(teacher=teacher, **changes))
    newest, averaged = asked(), asked(distill={"ema": True})
    assert averaged.origin["checksums"] != newest.origin["checksums"]
    assert newest.distillation.model.hidden_dim == 16 and newest.distillation.weight == 0.5
    stored, _, _ = reading.read_arrays(str(teacher), 4, "ema")
    np.testing.assert_array_equal(averaged.params["head"]["bias"], stored["head/bias"])
    assert asked(distill={"step": "2"}).origin["step"] == 2
    # From 36 to 64 patches, which are no multiple: the token mixing is resampled.
    larger = asked(image_size=(32, 32))
    assert "resized from (24, 24) to (32, 32) pixels" in larger.line
    assert larger.params["MixerBlock_0"]["token_mixing"]["Dense_0"]["kernel"].shape == (64, 8)


def test_its_forward_pass_is_counted(teacher):
    plain, distilled = (planned_step(config("plan", path)).update for path in ("", teacher))
    asked = 2 * flops.forward_macs(distilled.teacher.distillation.model, (24, 24))
    assert distilled.flops_per_image == plain.flops_per_image + asked
    twice = planned_step(config("plan", teacher, sam={"rho": 0.1})).update
    assert twice.flops_per_image == 2 * plain.flops_per_image + asked


def test_a_file_may_teach_and_classes_in_another_order_are_reordered(teacher, tmp_path, capsys):
    model, params, _ = mixer.load(teacher)
    file = tmp_path / "teacher.npz"
    mixer.save_pretrained(file, params, model)
    asked = config(teacher=file, distill={"model": "Mixer-Ti/4"})
    found = teaching(asked)
    np.testing.assert_array_equal(found.params["head"]["bias"], params["head"]["bias"])
    assert len(found.origin["sha256"]) == 64 and found.origin["step"] is None
    backwards = teaching(config(teacher=teacher), classes=DIGITS[::-1])
    np.testing.assert_array_equal(backwards.params["head"]["bias"], params["head"]["bias"][::-1])
    assert "the same classes in another order, and is reordered" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"teacher": "Mixer-Ti/4:cifar10"}, "has other classes than digits: airplane, .*finetune"),
        ({"teacher": "/nowhere/run"}, "is not the workdir of a training run"),
        ({"kind": "warm"}, "unknown config.distill.kind 'warm'.*Known: hard, soft"),
        ({"weight": 1.5}, "config.distill.weight=1.5: expected 0 <= weight <= 1"),
        ({"temperature": 0.0}, "config.distill.temperature=0: expected more than 0"),
        ({"step": "last"}, "config.distill.step='last': expected best, a number, or nothing"),
        ({"step": "3"}, r"has no checkpoint of step 3; it has \[2, 4\]"),
    ],
)
def test_a_teacher_that_cannot_teach_is_refused(asked, message, teacher):
    with pytest.raises(BadInput, match=message):
        teaching(config(distill={"teacher": str(teacher)} | asked))


def test_a_teacher_is_for_one_label_per_image(teacher):
    with pytest.raises(BadInput, match=r"one label per image \(here: several labels per image\)"):
        teaching(config(teacher=teacher), "classes")
    with pytest.raises(BadInput, match="config.loss must not be mse"):
        teaching(config(teacher=teacher, loss="mse"), "distribution")


def test_keys_of_a_distillation_count_only_with_a_teacher_and_its_kind(teacher):
    for given, refused in (
        ({"distill.weight": 1.0}, "distill.weight"),
        ({"distill.kind": "hard", "distill.temperature": 3.0}, "distill.temperature"),
    ):
        asked = config(teacher=teacher if "distill.kind" in given else "")
        for key, value in given.items():
            asked.distill[key.partition(".")[2]] = value
        asked = keys.track(asked, {f"--config.{key}": (key,) for key in given})
        build_training(asked)
        with pytest.raises(BadInput, match=f"--config.{refused} would not be used"):
            keys.used(asked)
