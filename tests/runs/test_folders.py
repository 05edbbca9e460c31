"""How runs use image folders: which classes apply, what is measured, what is printed."""

import csv
import dataclasses
import json
import os

import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet

import mixer
from configs import arguments, fewshot
from configs import folder as recipe
from mixer import errors
from mixer.data.sources import image_files
from mixer.runs import data, predict
from mixer.runs.evaluate import evaluations_of
from mixer.runs.reader import print_sources
from mixer.runs.trained import load_trained
from mixer.runs.training import build_training

COLOURS = {"red": (220, 30, 30), "green": (30, 220, 30), "blue": (30, 30, 220)}


def fill(root, each, names=COLOURS):
    for name in names:
        (root / name).mkdir(parents=True)
        for i in range(each):
            Image.new("RGB", (6, 5), COLOURS.get(name, "grey")).save(root / name / f"{i}.png")
    return root


def config_of(dataset, run="train", **changes):
    config = recipe.get_config(f"folder:{dataset},Mixer-S/16,16", run)
    config.model.update(num_blocks=1, hidden_dim=8, tokens_mlp_dim=8, channels_mlp_dim=8)
    config.batch_size = config.evaluators.test.batch_size = 8
    config.update(init_from="random", **changes)
    return config


def taught(root, dataset, **changes):
    """A model as if it had been trained on `root`, and the config that evaluates it elsewhere."""
    config = config_of(root, run="evaluate", **changes)
    trained = load_trained(config)
    card = dataclasses.replace(trained.card, dataset=f"folder:{root}")
    return dataclasses.replace(trained, card=card), config_of(dataset, run="evaluate")


def measured(trained, config):
    (evaluation,) = evaluations_of(config, trained)
    return evaluation.reader.source


def test_another_folder_is_measured_whole_and_the_models_own_on_held_out_images(tmp_path):
    mine, other = fill(tmp_path / "mine", 20), fill(tmp_path / "other", 20)
    trained, config = taught(mine, other)
    assert len(measured(trained, config)) == 60
    own = measured(trained, config_of(mine, run="evaluate"))
    assert own.split == "train[90%:]" and len(own) == 6
    training = build_training(config_of(mine))
    (of_training,) = (e.reader.source for e in training.evaluations)
    assert of_training.files == own.files
    assert not set(of_training.files) & set(training.reader.source.files)


def test_labels_follow_the_models_class_names(tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("green\nred\nblue\n")
    trained, config = taught(fill(tmp_path / "mine" / "train", 3).parent, tmp_path / "other")
    order = dataclasses.replace(trained.card, classes=("green", "red", "blue"))
    trained = dataclasses.replace(trained, card=order)
    fill(tmp_path / "other" / "Testing", 2, ("red", "blue"))
    source = measured(trained, config)
    assert source.classes == ("green", "red", "blue") and source.split == "Testing"
    assert {file.split("/")[1]: label for file, label in source.files} == {"red": 1, "blue": 2}
    fill(tmp_path / "other" / "Testing", 1, ("Gren",))
    with pytest.raises(errors.BadInput, match="none of the 3 expected .*Did you mean 'green'"):
        measured(trained, config)


def test_numbered_classes_do_not_identify_a_folders_classes(tmp_path):
    """Unless the folder has all of them, or the model was trained on a folder."""
    some = fill(tmp_path / "some", 2, "12")
    trained, config = taught(fill(tmp_path / "own", 9, "0123456789"), some)
    assert {label for _, label in measured(trained, config).files} == {1, 2}
    digits = dataclasses.replace(trained, card=dataclasses.replace(trained.card, dataset="digits"))
    with pytest.raises(errors.BadInput, match=r"no folders 0, 3, 4, 5, 6, ...: .*10 classes are"):
        measured(digits, config)
    for name in "03456789":
        (some / name).mkdir()
    assert {label for _, label in measured(digits, config).files} == {1, 2}


def test_what_is_read_and_what_is_not_read_is_printed(tmp_path, capsys):
    fill(tmp_path / "train", 10), fill(tmp_path / "valid", 4), fill(tmp_path / "extra", 1)
    training = build_training(config_of(tmp_path))
    print_sources(training.readers)
    name = f"folder:{tmp_path}"
    assert capsys.readouterr().out.splitlines() == [
        f"training: {name} train: 30 images, 10 in each of 3 classes: blue, green, red",
        f"test: {name} valid: 12 images, 4 in each of 3 classes: blue, green, red",
        f"not read: extra/ of {name}",
    ]


def test_a_fraction_is_printed_with_the_whole(tmp_path, capsys):
    fill(tmp_path / "train", 10), fill(tmp_path / "test", 4)
    config = config_of(tmp_path)
    config.input.fraction = 0.5
    print_sources(build_training(config).readers)
    out = capsys.readouterr().out
    assert "training: 15 of: folder:" in out and "30 images, 10 in each" in out
    assert "not read" not in out


def test_measuring_training_images_prints_a_warning(tmp_path, capsys):
    config = config_of(fill(tmp_path, 10))
    config.input.split = "train"

    def said():
        training = build_training(config)
        print_sources(training.readers, training.measured)
        return capsys.readouterr().out, training

    out, _ = said()
    assert "warning: 3 of the 3 images of test are trained on" in out
    (test,) = (line for line in out.splitlines() if line.startswith("test: "))
    assert test.endswith("; fewer than 10 images mean little") and out.count("mean little") == 1
    config.input.fraction = 0.5
    out, training = said()
    own = {file for file, _ in training.reader.source.files}
    assert len(own) == 15
    both = sum(file in own for file, _ in training.evaluations[0].reader.source.files)
    assert (f"warning: {both} of the 3 images" in out) == (both > 0)


def test_what_few_shot_evaluation_fits_its_heads_to_may_be_trained_on(tmp_path, capsys):
    dataset = f"folder:{fill(tmp_path / 'in', 10)}"
    config = config_of(tmp_path / "in")
    config.evaluators = fewshot.get_config(dataset).evaluators
    config.evaluators.fewshot.shots = (1,)
    training = build_training(config)
    print_sources(training.readers, training.measured)
    assert "warning" not in capsys.readouterr().out
    config.input.split = "train"
    training = build_training(config)
    print_sources(training.readers, training.measured)
    (warning,) = (s for s in capsys.readouterr().out.splitlines() if s.startswith("warning"))
    assert warning == "warning: 3 of the 3 images of fewshot are trained on"


LISTS = ["red\ngreen\nblue\n", '["red", "green",\n "blue"]', "red\r\ngreen\r\nblue"]


@pytest.mark.parametrize("text", LISTS)
def test_class_names_give_the_order(text, tmp_path):
    (tmp_path / "names").write_text(text)
    config = config_of(fill(tmp_path / "in", 10))
    config.input.class_names = str(tmp_path / "names")
    training = build_training(config)
    assert training.card.classes == ("red", "green", "blue")
    assert all(
        training.card.classes[label] == file.split("/")[0]
        for file, label in training.reader.source.files
    )


NAMES = {
    "cannot be read": None,
    "'red' occurs twice": "red\ngreen\nred",
    "only one": "red",
    "a line is empty": "red\n\ngreen",
    "one name per line, or a JSON list": '["red", 3]',
    "expected one name per line, or a JSON list": '{\n  "0": "red",\n  "1": "green"\n}',
    "cannot be read: Expecting": '["red", ',
}


@pytest.mark.parametrize("message", NAMES)
def test_invalid_class_names_are_refused(message, tmp_path):
    config = config_of(tmp_path)
    config.input.class_names = str(tmp_path / "names")
    if NAMES[message] is not None:
        (tmp_path / "names").write_text(NAMES[message])
    with pytest.raises(errors.BadInput, match=message):
        data.class_names(config)


def test_class_names_may_reorder_a_datasets_names_but_not_replace_them(data_dir, tmp_path):
    (tmp_path / "names").write_text("\n".join("9876543210"))
    config = recipe.get_config("digits,smoke")
    own = build_training(config).reader.source[0]
    config.input.class_names = str(tmp_path / "names")
    source = build_training(config).reader.source
    assert source.classes == tuple("9876543210") and source[0]["label"] == 9 - own["label"]
    (tmp_path / "names").write_text("\n".join("abcdefghij"))
    with pytest.raises(errors.BadInput, match="begins with a, b, .* its own names: 0, 1"):
        build_training(config)


def test_weights_without_class_names_print_which_are_assumed(tmp_path, capsys):
    """With names they need no images."""
    config = config_of(fill(tmp_path / "in", 1, ("1", "2", "10")), run="predict")
    assert load_trained(config).card.classes == ("1", "10", "2")
    assert "in order of their names as text: 1, 10, 2; config.input" in capsys.readouterr().out
    (tmp_path / "names").write_text("1\n2\n10")
    config.input.class_names, config.dataset = str(tmp_path / "names"), "folder:nowhere"
    assert load_trained(config).card.classes == ("1", "2", "10")


@pytest.fixture
def pictures(tmp_path):
    """Five pictures, one damaged, and a text file, with names that break lists and globs."""
    root = tmp_path / "pictures"
    (root / "below").mkdir(parents=True)
    for name in ("a,b.png", "c.png", "e[1].png", "below/d.PNG"):
        Image.new("RGB", (6, 5)).save(root / name)
    (root / "empty.png").write_bytes(b"")
    (root / "notes.txt").write_text("x")
    (root / ".hidden.png").write_text("x")
    return root


@pytest.mark.parametrize(
    ("names", "found", "left_out"),
    [
        ("", "a,b.png c.png e[1].png empty.png below/d.PNG", {".txt": 1}),
        ("/**/*", "a,b.png below/d.PNG c.png e[1].png empty.png", {".txt": 1}),
        ("/*", "a,b.png below/d.PNG c.png e[1].png empty.png", {".txt": 1}),
        ("/**/*.PNG", "below/d.PNG", {}),
        ("/a,b.png", "a,b.png", {}),
        ("/c.png,{}/a,b.png, {}/below,", "c.png a,b.png below/d.PNG", {}),
        ("/e[1].png", "e[1].png", {}),
        ("/[ce]*.png,{}/c.png", "c.png e[1].png empty.png", {}),
    ],
)
def test_files_folders_and_globs(names, found, left_out, pictures):
    counted = image_files.Counter()
    files = image_files.expand(str(pictures) + names.replace("{}", str(pictures)), counted)
    assert [os.path.relpath(file, pictures) for file in files] == found.split()
    assert counted == left_out


@pytest.mark.parametrize("names", [" ", ",", " , "])
def test_a_list_that_names_no_file_is_refused(names):
    with pytest.raises(errors.BadInput, match=f"images='{names}' names no file"):
        image_files.expand(names, image_files.Counter())


@pytest.mark.parametrize("names", ["/none.png", "/c.png,{}/none.png", "/*.jpg"])
def test_missing_files_are_named(names, pictures):
    missing = names.replace("{}", str(pictures)).split(",")[-1].removeprefix(str(pictures))
    asked = str(pictures) + names.replace("{}", str(pictures))
    with pytest.raises(errors.BadInput, match=f"no file '{pictures}") as raised:
        image_files.expand(asked, image_files.Counter())
    assert missing in str(raised.value)
    with pytest.raises(errors.BadInput, match="contains no images, only 1 .txt"):
        image_files.expand(f"{pictures}/*.txt", image_files.Counter())


def test_an_unreadable_file_is_named_and_skipped(pictures, tmp_path, capsys):
    os.rename(pictures / "c.png", os.fsencode(pictures) + b"/caf\xe9.png")
    config = config_of(fill(tmp_path / "in", 1), run="predict", images=str(pictures))
    trained = load_trained(config)
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predict, "load_trained", lambda config: trained)
        patch.setattr("builtins.print", lambda *args, **_: said.extend(map(str, args)))
        said = []
        predict.run(config, str(tmp_path / "out"), "folder")
    assert said[0] == "5 files; left out: 1 .txt"
    assert said[-1] == f"1 of 5 files cannot be read: {pictures}/empty.png"
    lines = list(map(json.loads, (tmp_path / "out" / "predictions.jsonl").open()))
    (bad,) = (line for line in lines if "error" in line)
    assert len(lines) == 5 and bad["file"] == f"{pictures}/empty.png"
    assert bad["error"].startswith("not a readable image")
    assert os.fsencode(pictures) + b"/caf\xe9.png" in [os.fsencode(line["file"]) for line in lines]
    with (tmp_path / "out" / "predictions.csv").open(newline="") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    assert len(rows) == 5 and rows[f"{pictures}/empty.png"]["class"] == ""
    row = rows[f"{pictures}/a,b.png"]
    assert row["error"] == "" and {row["class"], row["class_2"], row["class_3"]} == set(COLOURS)
    assert sum(float(row[f"probability{n}"]) for n in ("", "_2", "_3")) == pytest.approx(1)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["skipped_examples"] == 1


def test_a_list_of_files_may_be_given(pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(pictures)
    listed = tmp_path / "list.txt"
    listed.write_text("a,b.png\n\n" + str(pictures / "below") + "\nc*.png\n")
    left_out = image_files.Counter()
    found = image_files.expand(str(listed), left_out)
    assert found == ["a,b.png", f"{pictures}/below/d.PNG", "c.png"]
    listed.rename(tmp_path / "list")  # only the sign says that it is one
    assert image_files.expand(f"@{tmp_path}/list", left_out) == found
    assert image_files.expand(f"{tmp_path}/list", left_out) == [f"{tmp_path}/list"]
    assert image_files.expand(f"c.png,@{tmp_path}/list", left_out)[0] == "c.png"
    for content, said in (
        ("a,b.png\nnone.png\n", r"line 2 of .*list: no image, folder or glob 'none.png' in"),
        ("@other", "line 1 of .*no image, folder or glob '@other'"),
        ("\n", "list is empty"),
    ):
        (tmp_path / "list").write_text(content)
        with pytest.raises(errors.BadInput, match=said):
            image_files.expand(f"@{tmp_path}/list", left_out)


def test_a_table_is_no_list_of_images(tmp_path):
    (tmp_path / "patients.csv").write_text("path,label\na.png,x\n")
    with pytest.raises(errors.BadInput, match="patients.csv is a table: expected .* @FILE"):
        image_files.expand(f"{tmp_path}/patients.csv", image_files.Counter())


def test_without_a_workdir_the_classes_are_only_printed(pictures, tmp_path, monkeypatch, capsys):
    config = config_of(fill(tmp_path / "in", 1), run="predict", images=f"{pictures}/c.png")
    config.predict.top = 2
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    predict.run(config, None, "folder")
    out = capsys.readouterr().out
    assert out.count("%  ") == 2 and f"{pictures}/c.png\n" in out
    assert sorted(tmp_path.rglob("*")) == before
    for key, value, said in (
        ("embeddings", "npz", "embeddings=npz needs --workdir"),
        ("embeddings", "csv", "'csv'.*npz, parquet"),
        ("top", 0, "predict.top=0: expected 1 or more"),
    ):
        changed = config.copy_and_resolve_references()
        changed.predict[key] = value
        with pytest.raises(errors.BadInput, match=said):
            predict.run(changed, None, "folder")


@pytest.mark.parametrize("kind", ["npz", "parquet"])
def test_embeddings_are_the_input_of_the_head(kind, pictures, tmp_path):
    config = config_of(fill(tmp_path / "in", 1), run="predict", images=str(pictures))
    config.predict.embeddings = kind
    predict.run(config, str(tmp_path / "out"), "folder")
    if kind == "npz":
        with np.load(tmp_path / "out" / "embeddings.npz") as file:
            files, found = list(file["files"]), file["embeddings"]
    else:
        table = parquet.read_table(tmp_path / "out" / "embeddings.parquet").to_pydict()
        files, found = table["file"], np.array(table["embedding"], np.float32)
    everything = image_files.expand(str(pictures), image_files.Counter())
    assert files == [file for file in everything if "empty" not in file]
    trained = load_trained(config)
    card = trained.card
    logits = trained.model.apply({"params": trained.params}, mixer.preprocess(files, card))
    head = trained.params["head"]
    np.testing.assert_allclose(found @ head["kernel"] + head["bias"], logits, atol=1e-4)


def test_without_a_readable_file_nothing_is_written(pictures, tmp_path):
    config = config_of(fill(tmp_path / "in", 1), run="predict", images=f"{pictures}/empty.png")
    with pytest.raises(errors.BadInput, match="empty.png: not a readable image"):
        predict.run(config, str(tmp_path / "out"), "folder")
    assert not (tmp_path / "out").exists()


def test_a_folders_path_may_hold_commas(tmp_path):
    odd = fill(tmp_path / "cats, dogs" / "a,b", 3)
    words = arguments.parse(f"32,folder:{odd},smoke", model="m", dataset="", resolution=0)
    assert words == arguments.Arguments("m", f"folder:{odd}", 32, smoke=True)
    assert f"the word 'folder:{odd}'" in arguments.keys_of(f"folder:{odd},32")
    with pytest.raises(errors.BadInput, match="unknown config argument 'b'"):
        arguments.parse("folder:/nowhere/a,b", model="m", dataset="", resolution=0)


def test_few_shot_evaluation_uses_the_splits_that_exist(tmp_path):
    dataset = f"folder:{fill(tmp_path / 'Train', 3).parent}"
    (asked,) = fewshot.get_config(dataset).evaluators.fewshot.datasets
    assert asked == (dataset, "train[:90%]", "train[90%:]")
    fill(tmp_path / "valid", 3)
    (asked,) = fewshot.get_config(dataset).evaluators.fewshot.datasets
    assert asked == (dataset, "train", "validation")
