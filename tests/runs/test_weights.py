"""Weights of a finished run in use: load_pretrained, evaluate, predict, init_from."""

import json
import shutil

import jax
import numpy as np
import pytest
from etils import epath
from PIL import Image
from runs_command import run

import mixer
from configs import folder as folder_config
from configs import quickstart
from mixer.checkpoint.store import Store
from mixer.runs.trained import load_trained
from mixer.runs.training import build_training


@pytest.fixture(scope="module")
def trained(data_dir, tmp_path_factory):
    """A run on three classes of plain colours, learnt in moments."""
    root = tmp_path_factory.mktemp("colours")
    rng = np.random.default_rng(0)
    for split, count in (("train", 40), ("test", 8)):
        for name, colour in {"red": 0, "green": 1, "blue": 2}.items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 90, (20, 26, 3))
                pixels[..., colour] += 160
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    workdir = root / "run"
    code, _, err = run(
        data_dir,
        f"configs/folder.py:folder:{root},32,smoke",
        workdir,
        f"--config.dataset=folder:{root}",
        "--config.evaluators.test.split=test",
        "--config.total=30 steps",
        "--config.ema_decay=0.5",
        "--config.optimizer.weight_decay=0.0",
        "--config.schedule.base=0.003",
        "--config.best=test/top1",
    )
    assert code == 0, err
    return root, workdir


def model_of(workdir, **changes):
    fields = json.loads((workdir / "config.json").read_text())["model"] | changes
    return mixer.create_model(fields.pop("name"), **fields)


@pytest.mark.slow
def test_load_pretrained_of_a_workdir(trained):
    _, workdir = trained
    model = model_of(workdir, num_classes=3)
    params = mixer.load_pretrained(workdir, model)
    logits = model.apply({"params": params}, np.zeros((2, 32, 32, 3), np.float32))
    assert logits.shape == (2, 3)
    same = mixer.load_pretrained(workdir, model, image_size=32)
    jax.tree.map(np.testing.assert_array_equal, params, same)
    features = model.clone(num_classes=0)
    assert "head" not in mixer.load_pretrained(workdir, features)
    averaged = mixer.load_pretrained(workdir, model, ema=True)
    assert not np.array_equal(averaged["stem"]["kernel"], params["stem"]["kernel"])
    mixer.load_pretrained(workdir, model, step="best")
    for message, kwargs in (
        ("40 x 40 is not divisible by patch_size 16", {"image_size": 40}),
        ("no checkpoint of step 7; it has", {"step": 7}),
    ):
        with pytest.raises(mixer.BadInput, match=message):
            mixer.load_pretrained(workdir, model, **kwargs)
    with pytest.raises(mixer.BadInput, match="is not the workdir"):
        mixer.load_pretrained(workdir / "nothing", model)


@pytest.mark.slow
def test_runs_take_the_best_checkpoint_and_averaged_weights(trained, data_dir):
    root, workdir = trained
    config = folder_config.get_config(f"folder:{root},32,smoke")
    config.run, config.init_from = "evaluate", str(workdir)
    with Store(epath.Path(workdir) / "checkpoints", read_only=True) as store:
        scores = {at: store.meta(at)["best"] for at in store.steps()}
    kept = {at: score for at, score in scores.items() if score is not None}
    config.init_step = "best"
    best = load_trained(config)
    assert best.step == max(kept, key=kept.get)
    config.init_step, config.init_ema = "", True
    newest = load_trained(config)
    assert newest.step == max(scores)
    averaged = mixer.load_pretrained(workdir, model_of(workdir, num_classes=3), ema=True)
    jax.tree.map(np.testing.assert_array_equal, newest.params, averaged)
    config.init_step = "last"
    with pytest.raises(mixer.BadInput, match="config.init_step='last': expected best, a number"):
        load_trained(config)


@pytest.mark.slow
def test_evaluate_repeats_what_training_measured(trained, data_dir, tmp_path):
    root, workdir = trained
    evaluate = (
        "--config.run=evaluate",
        f"--config.init_from={workdir}",
        f"--config.dataset=folder:{root}",
        "--config.evaluators.test.split=test",
    )
    recipe = f"configs/folder.py:folder:{root},smoke"
    code, out, err = run(data_dir, recipe, tmp_path / "out", *evaluate)
    assert code == 0, err
    assert "resize_small(37)|central_crop" in out
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    before = json.loads((workdir / "results.json").read_text())
    for name, value in results["metrics"].items():
        assert value == pytest.approx(before["metrics"][name], rel=1e-5), name
    assert results["run"] == "evaluate" and results["resolution"] == 32
    assert results["upstream"]["path"] == str(workdir) and results["upstream"]["epochs"] == 2.0
    code, _, err = run(
        data_dir,
        recipe,
        tmp_path / "digits",
        *evaluate[:2],
        "--config.dataset=digits",
    )
    assert (
        code == 2
        and "digits has 10 classes (0, 1, 2, ...), the model has 3 (blue, green, red)" in err
    )


@pytest.mark.slow
def test_predict_names_the_classes(trained, data_dir, tmp_path):
    _, workdir = trained
    Image.new("RGB", (50, 40), (20, 30, 240)).save(tmp_path / "sky.jpg")
    Image.new("RGB", (40, 50), (230, 20, 30)).save(tmp_path / "rose.png")
    predict = ("--config.run=predict", f"--config.init_from={workdir}")
    images = f"--config.images={tmp_path}/sky.jpg,{tmp_path}/*.png"
    recipe = "configs/folder.py:smoke"
    code, out, err = run(data_dir, recipe, tmp_path / "out", *predict, images)
    assert code == 0, err
    lines = (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()
    first, second = map(json.loads, lines)
    assert first["top"][0]["class"] == "blue" and second["top"][0]["class"] == "red"
    assert sum(t["probability"] for t in first["top"]) == pytest.approx(1, rel=1e-5)
    assert "sky.jpg" in out and "%  blue" in out
    (tmp_path / "text.jpg").write_text("no image")
    for bad, message in (("none.jpg", "no file"), ("text.jpg", "not a readable image")):
        code, _, err = run(
            data_dir, recipe, tmp_path / "bad", *predict, f"--config.images={tmp_path / bad}"
        )
        assert code == 2 and message in err and not (tmp_path / "bad").exists()


@pytest.mark.slow
def test_init_from_starts_where_the_other_run_ended(trained, data_dir, capsys):
    root, workdir = trained
    config = quickstart.get_config(f"folder:{root},32")
    config.model.update(json.loads((workdir / "config.json").read_text())["model"])
    config.model.num_classes = None
    config.init_from = str(workdir)
    config.batch_size = 16
    training = build_training(config)
    params, upstream = training.initial()
    assert upstream["dataset"] == f"folder:{root}"
    model = model_of(workdir, num_classes=3)
    stored = mixer.load_pretrained(workdir, model)
    jax.tree.map(np.testing.assert_array_equal, params, stored)

    others = workdir.parent / "others"  # as many classes, with other names
    for split in ("train", "test"):
        for name in ("red", "green", "blue"):
            shutil.copytree(root / split / name, others / split / f"not {name}")
    config.dataset = f"folder:{others}"
    fresh, _ = build_training(config).initial()
    said = (
        "its head is for other classes, blue, green, red, than not blue, not green, not red: a new"
    )
    assert said in capsys.readouterr().out and not np.any(fresh["head"]["kernel"])

    config.dataset = "digits"
    fresh, _ = build_training(config).initial()
    assert "its head has 3 classes; a new one for 10 classes" in capsys.readouterr().out
    assert not np.any(fresh["head"]["kernel"])
    np.testing.assert_array_equal(fresh["stem"]["kernel"], stored["stem"]["kernel"])
    mixer.save_pretrained(workdir.parent / "weights.npz", stored, model)
    config.dataset, config.init_from = f"folder:{root}", str(workdir.parent / "weights.npz")
    params, upstream = build_training(config).initial()
    jax.tree.map(np.testing.assert_array_equal, params, stored)
    assert len(upstream["sha256"]) == 64 and upstream["model"] is None


@pytest.mark.slow
def test_evaluate_a_file(trained, data_dir, tmp_path):
    """An .npz has no card: model, preprocessing and classes are the config's."""
    root, workdir = trained
    model = model_of(workdir, num_classes=3)
    mixer.save_pretrained(tmp_path / "w.npz", mixer.load_pretrained(workdir, model), model)
    fields = json.loads((workdir / "config.json").read_text())["model"]
    code, _, err = run(
        data_dir,
        f"configs/folder.py:folder:{root},32",
        tmp_path / "out",
        "--config.run=evaluate",
        f"--config.init_from={tmp_path / 'w.npz'}",
        f"--config.model.num_blocks={fields['num_blocks']}",
    )
    assert code == 0, err
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    before = json.loads((workdir / "results.json").read_text())["metrics"]
    assert results["metrics"]["test/top1"] == before["test/top1"]
