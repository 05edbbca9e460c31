"""Figures from the paper's numbers, from workdirs and from weights."""

import ast
import csv
import importlib
import json
import types
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mixer import errors
from mixer.paper import rows
from mixer.paper.series import Absent
from mixer.runs import collecting, figures, keys


def written(folder, config, **results):
    """The workdir of a complete run."""
    nested = keys.as_json(config)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(nested))
    lines = [{"step": step, "val/top1": 0.1 + step / 100} for step in (0, 10, 20)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    content = {
        "run": nested["run"],
        "model": nested["model"]["name"],
        "dataset": nested["dataset"],
        "resolution": nested["image_size"][0],
        "seed": nested["seed"],
        "upstream": None,
        "params": 490_000,
        "metrics": {"val/top1": 0.3},
        "device_kind": "TPU v3",
        "device_days": 10.0,
    }
    (folder / "results.json").write_text(json.dumps(content | results))


def recipe(name, words, *run):
    return importlib.import_module(f"configs.{name}").get_config(words, *run)


def drawn(place, model="Mixer-S/16", **given):
    """Runs it: results.json's metrics."""
    config = recipe("quickstart", f"smoke,32,{model}", "figures")
    by = {}
    for key, value in given.items():
        *groups, name = key.split("__")
        group = config
        for part in groups:
            group = group[part]
        group[name] = value
        by[f"--config.{key}"] = (".".join([*groups, name]),)
    figures.run(keys.track(config, by), str(place), "quickstart:smoke")
    results = json.loads((place / "results.json").read_text())
    assert results["run"] == "figures"
    for name in {metric.partition("/")[0] for metric in results["metrics"]}:
        assert np.asarray(Image.open(place / f"{name}.png").convert("L")).std() > 5
        ElementTree.parse(place / f"{name}.svg")
        of_weights = name in ("figure5", "figure6", "figure7")
        assert (place / f"{name}.csv").exists() == (not of_weights)
    return results["metrics"]


def test_without_input_the_papers_own_points_are_drawn_and_the_rest_is_listed(tmp_path, capsys):
    metrics = drawn(tmp_path / "figures")
    assert metrics == {
        f"{name}/{what}": count
        for name in ("figure2_left", "figure3")
        for what, count in (("points_of_the_paper", 26), ("points_of_ours", 0))
    }
    out = capsys.readouterr().out
    assert "figure2_right is left out: figure2_right needs trainings of one model" in out
    assert "figure4 is left out: " in out
    assert "figure5 is left out: it needs --config.init_from=" in out


def test_our_rows_are_drawn_with_the_papers(tmp_path, capsys):
    row = next(r for r in rows.rows() if r.label == "Mixer-B/16, imagenet2012, 300 epochs, 224")
    for run in row.runs[:2]:
        config = recipe(run.recipe, ",".join(run.words))
        for key, value in run.keys.items():
            group, _, name = key.rpartition(".")
            (config if not group else config[group])[name] = value
        first = run is row.runs[0]
        upstream = None if first else {"dataset": "imagenet2012", "epochs": 300.0, "path": "x"}
        metrics = {"test/top1": 0.77, "real/top1": 0.8}
        written(tmp_path / "runs" / run.folder, config, upstream=upstream, metrics=metrics)
        file = tmp_path / "runs" / run.folder / "results.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"epochs": 300.0}))
    given = {"tables__workdirs": str(tmp_path / "runs")}
    metrics = drawn(tmp_path / "figures", figures__which=("figure2_left", "figure3"), **given)
    assert metrics["figure2_left/points_of_ours"] == 1
    assert metrics["figure3/points_of_ours"] == 0  # its throughput was not measured


def test_curves_from_workdirs(tmp_path):
    runs = tmp_path / "runs"
    for words in ("3%,Mixer-S/32", "30%,Mixer-S/32", "100%,Mixer-S/32"):
        config = recipe("data_scaling", f"{words},imagenet2012")
        written(runs / words, config)
    for case in ("original", "patches", "pixels"):
        for seed in (0, 1):
            config = recipe("permutation", f"{case},BiT-R50x1,imagenet2012,64")
            config.seed, config.model.width = seed, 32
            written(runs / f"{case}-{seed}", config)
    metrics = drawn(
        tmp_path / "figures",
        figures__which=("figure2_right", "figure4"),
        tables__workdirs=str(runs / "*"),
    )
    assert metrics == {"figure2_right/lines": 1, "figure2_right/points": 3, "figure4/curves": 3}
    numbers = list(csv.DictReader((tmp_path / "figures" / "figure2_right.csv").open()))
    assert [line["fraction"] for line in numbers] == ["0.03", "0.3", "1.0"]
    assert {line["Top-1 on validation images, %"] for line in numbers} == {"30.00"}
    assert {line["std"] for line in numbers} == {""}  # one seed
    numbers = list(csv.DictReader((tmp_path / "figures" / "figure4.csv").open()))
    assert [line["case"] for line in numbers[::3]] == ["original", "patches", "pixels"]
    assert [(line["step"], line["std"]) for line in numbers[:2]] == [("0", "0.00"), ("10", "0.00")]
    svg = (tmp_path / "figures" / "figure4.svg").read_text()
    assert "BiT-R50x1, altered: 0.49 M parameters" in svg  # the comment beside its outlines


def test_a_run_counts_once_and_one_that_is_not_complete_is_named(tmp_path, capsys):
    for name in ("a", "b"):
        written(tmp_path / "runs" / name, recipe("data_scaling", "3%,Mixer-S/32,imagenet2012"))
    (tmp_path / "runs" / "b" / "results.json").unlink()
    (tmp_path / "runs" / "notes.txt").write_text("not a run")
    asked = f"{tmp_path}/runs, {tmp_path}/runs/a,{tmp_path}/runs/*,"
    assert [result.path for result in collecting.results(asked)] == [f"{tmp_path}/runs/a"]
    assert f"{tmp_path}/runs/b: not complete, so not counted" in capsys.readouterr().out
    with pytest.raises(errors.BadInput, match="neither .*/runs/b' nor a folder below it has"):
        list(collecting.results(f"{tmp_path}/runs/b"))


def test_units_of_a_model(tmp_path):
    metrics = drawn(
        tmp_path / "figures",
        init_from="random",
        image_size=(32, 48),
        model__hidden_dim=12,
        figures__which=("figure5", "figure6", "figure7"),
    )
    assert metrics["figure5/blocks"] == metrics["figure6/blocks"] == 2  # of three
    assert metrics["figure5/units"] == 512 and metrics["figure7/units"] == 12
    content = json.loads((tmp_path / "figures" / "config.json").read_text())
    assert "tables" not in content and content["init_from"] == "random"


def test_what_cannot_be_drawn_is_refused_before_anything_is_written(tmp_path):
    place = tmp_path / "figures"
    for given, message in (
        ({"figures__which": ("figure5",)}, "needs --config.init_from="),
        ({"figures__which": ("figure8",)}, "unknown config.figures.which 'figure8'. Did you mean"),
        ({"figures__which": ("figure4",)}, "figure4 needs trainings of one model on two cases"),
        ({"figures__which": ("figure3",), "init_from": "random"}, "init_from would not be used"),
        ({"tables__workdirs": str(tmp_path / "none")}, "none' nor .* has a results.json"),
    ):
        with pytest.raises(errors.BadInput, match=message):
            drawn(place, **given)
        assert not place.exists()


def test_a_model_without_token_mixing_has_no_such_units(tmp_path, capsys):
    small = {"model__hidden_dim": 12, "model__mlp_dim": 12, "model__num_heads": 2}
    given = {"model": "ViT-S/16", "init_from": "random"} | small
    metrics = drawn(tmp_path / "figures", **given)
    out = capsys.readouterr().out
    assert "figure5 is left out: ViT-S/16 has no token-mixing MLPs" in out
    assert "expected a Mixer in config.init_from" in out
    assert metrics["figure7/units"] == 12


@pytest.mark.parametrize("shape", ((12, 4, 5), (8, 5)), ids=("untied", "grouped"))
def test_units_that_are_not_images_are_not_drawn(shape):
    block = {"token_mixing": {"Dense_0": {"kernel": np.zeros(shape)}}}
    trained = types.SimpleNamespace(
        params={"MixerBlock_0": block},
        card=types.SimpleNamespace(model={"name": "Other"}, image_size=(32, 32)),
        model=types.SimpleNamespace(patch_size=16),
    )
    with pytest.raises(Absent, match=r"Other mixes tokens by kernels .* each of 2 x 2 patches"):
        figures._hidden_units(trained, 3)


def test_only_runs_that_draw_import_matplotlib():
    root = Path(__file__).parents[2] / "mixer"
    text = {file.relative_to(root).as_posix(): file.read_text() for file in root.rglob("*.py")}
    drawing = {
        name
        for name, code in text.items()
        if "import matplotlib" in code or "from matplotlib" in code
    }
    assert drawing == {
        "paper/charts.py",
        "paper/diagrams.py",
        "paper/style.py",
        "paper/units.py",
        "runs/figures.py",
    }
    modules = {Path(name).stem for name in drawing}
    draw = {
        name
        for name, code in text.items()
        for node in ast.parse(code).body  # a training draws too, but imports it only at its end
        if isinstance(node, ast.ImportFrom) and node.module == "mixer.paper"
        if modules & {alias.name for alias in node.names}
    }
    assert draw == {"runs/figures.py", "runs/answers.py", "runs/numbers.py"}
