"""Cells from results.json: means, standard deviations, missing runs, runs that do not match."""

import csv
import dataclasses
import io

import pytest

from mixer.paper import matching, rows, tables
from mixer.paper.matching import Result

ROW = next(r for r in rows.rows() if r.label == "Mixer-B/16, imagenet2012, 300 epochs, 224")
PRETRAINING, *SWEEPS, THROUGHPUT = ROW.runs


def results(run, **metrics):
    return {"run": run, "metrics": metrics, "device_kind": "TPU v3", "device_days": 12.0}


@pytest.fixture
def found():
    made = {PRETRAINING.folder: results("train")}
    for i, run in enumerate(SWEEPS):
        made[run.folder] = results("sweep", **{"test/top1": 0.8 + i / 100, "test/top1_std": 0.003})
    made[SWEEPS[0].folder]["metrics"] |= {"real/top1": 0.85, "real/top1_std": None}
    (metric,) = THROUGHPUT.fills.values()
    made[THROUGHPUT.folder] = results("throughput", **{metric: 1500.0})
    return made


def test_cells_are_in_the_units_of_the_paper(found):
    cells = tables.fill(ROW, found)
    assert cells["imagenet"].ours == pytest.approx(80.0) and cells["imagenet"].paper == 76.44
    assert cells["imagenet"].std == pytest.approx(0.3)
    assert cells["avg5"].ours == pytest.approx(82.0)
    assert cells["avg5"].std == pytest.approx(0.3 / 5**0.5)  # of a mean of five
    assert cells["real"].ours == pytest.approx(85.0) and cells["real"].std is None
    assert cells["cost"].ours == pytest.approx(0.012)
    assert cells["throughput"].difference == pytest.approx(1500 - 1384)


def test_throughput_on_another_device_has_no_difference(found):
    found[THROUGHPUT.folder]["device_kind"] = "cpu"
    cells = tables.fill(ROW, found)
    assert cells["throughput"].ours == 1500 and cells["throughput"].difference is None
    assert cells["imagenet"].difference is not None


def test_missing_runs_are_named_and_not_averaged(found):
    del found[SWEEPS[3].folder]
    cells = tables.fill(ROW, found)
    assert cells["avg5"].ours is None and cells["avg5"].missing == (SWEEPS[3].folder,)
    assert cells["imagenet"].ours is not None


def test_the_three_formats_agree(found):
    filled = [(ROW, tables.fill(ROW, found))]
    assert "76.44 / 80.00 ± 0.30 / +3.56" in tables.markdown(filled)
    assert r"76.44 / 80.00 $\pm$ 0.30 / +3.56" in tables.latex(filled)
    lines = list(csv.DictReader(io.StringIO(tables.csv_text(filled))))
    (line,) = [line for line in lines if line["column"] == "imagenet"]
    assert (line["paper"], line["ours"], line["difference"]) == ("76.44", "80", "3.56")


def test_results_json_has_accuracies_as_fractions(found):
    metrics = tables.metrics({"table3": [(ROW, tables.fill(ROW, found))]})
    assert metrics[f"table3/{ROW.label}/imagenet"] == pytest.approx(0.8)
    assert metrics[f"table3/{ROW.label}/throughput"] == 1500


RECIPE = {"run": "sweep", "dataset": "cifar10", "schedule.warmup": "500 steps", "total": "x"}
UPSTREAM = {"dataset": "imagenet2012", "epochs": 300.0}
OURS = {
    "run": "sweep",
    "model": "Mixer-B/16",
    "dataset": "cifar10",
    "resolution": 224,
    "seed": None,
    "upstream": UPSTREAM,
    "metrics": {"test/top1": 0.9},
    "device_days": 1.0,
}


def is_match(**changes):
    return matching.matches(Result("x", OURS | changes, {}), ROW, SWEEPS[1], RECIPE)


def test_results_are_matched_to_rows():
    assert is_match()
    assert is_match(upstream=UPSTREAM | {"epochs": None})  # a published file
    for changes in (
        {"model": "Mixer-S/16"},
        {"dataset": "cifar100"},
        {"resolution": 448},
        {"run": "vtab"},
        {"upstream": None},
        {"upstream": UPSTREAM | {"dataset": "imagenet21k"}},
        {"upstream": UPSTREAM | {"epochs": 90.0}},
    ):
        assert not is_match(**changes), changes


def test_few_shot_results_are_matched_by_the_epochs_of_pretraining():
    """3, 10, 30 and 100 % of the data are trained on for 233, 70, 23 and 7 epochs."""
    parts = [r for r in rows.rows() if r.part == "figure2_right" and r.model == "Mixer-B/32"]
    found = {}
    for row in parts:
        for epochs in (233.33, 70.0, 23.33, 7.0):
            upstream = {"dataset": "jft", "epochs": epochs}
            few_shot = {
                "run": "fewshot",
                "model": "Mixer-B/32",
                "upstream": upstream,
                "metrics": {},
            }
            if matching.matches(Result("x", few_shot, {}), row, row.runs[1], {"run": "fewshot"}):
                found.setdefault(row.label, []).append(epochs)
    assert found == {
        "Mixer-B/32, 3%": [233.33],
        "Mixer-B/32, 10%": [70.0],
        "Mixer-B/32, 30%": [23.33],
        "Mixer-B/32, 100%": [7.0],
    }


def test_differences_from_the_recipe_are_named():
    config = {"schedule.warmup": "100 steps", "runtime.threads": 3, "seed": 5, "dataset": "cifar10"}
    found = matching.differences(Result("x", OURS, config), RECIPE)
    assert found == ["schedule.warmup='100 steps', the recipe has '500 steps'"]


def test_seeds_are_averaged():
    one = Result("one", OURS | {"seed": 0}, {})
    other = Result("other", OURS | {"seed": 1, "metrics": {"test/top1": 0.8}}, {})
    found = matching.merged([one, other])["metrics"]
    assert found == {
        "test/top1": pytest.approx(0.85),
        "test/top1_std": pytest.approx(0.0707, abs=1e-4),
    }
    assert list(matching.same_seed([one, other])) == []
    again = dataclasses.replace(other, path="again")
    assert list(matching.same_seed([one, other, again])) == [(other, again)]
