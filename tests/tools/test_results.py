"""The tables in the documents are made from the results in docs/results."""

import csv
import json
import tomllib

import pytest

from tools import csv_tables, results, speed_results

# {table: the page that must have it}, if not reproduction.md.
PAGE = {"plans": "plan.md", "features": "features.md"} | dict.fromkeys(
    ("references", "bills", "step_speed", "input", "precision"), "performance.md"
)


@pytest.mark.parametrize("page", results.FILES, ids=lambda page: page.name)
def test_the_documents_show_the_results(page):
    text = page.read_text()
    assert results.filled(text) == text, "run python tools/results.py"
    for name, (source, _) in results.TABLES.items():
        if results.read(source) and page.name == PAGE.get(name, "reproduction.md"):
            assert f"<!-- {name} -->\n\n| " in text and f"|\n\n<!-- /{name} -->" in text


def test_the_table_of_features_is_of_the_commands_in_its_list():
    asked = tomllib.loads((results.ROOT / "tools" / "features.toml").read_text())["row"]
    lines = results.read("features")
    assert [(line["what"], line["run"]) for line in lines] == [(r["what"], r["run"]) for r in asked]
    assert len({line["what"] for line in lines}) == len(lines) >= 58
    assert sum(line["ours"] == "yes" for line in lines) >= 52


def test_figure_4_shows_the_last_step(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_tables, "RESULTS", tmp_path)
    with (tmp_path / "figure4.csv").open("w") as file:
        writer = csv.writer(file)
        writer.writerow(["model", "case", "step", "Top-1 on test images, %", "std"])
        for case, final in (("original", "50.00"), ("patches", "49.00"), ("pixels", "25.00")):
            writer.writerow(["Mixer", case, 1, "10.00", "1.00"])
            writer.writerow(["Mixer", case, 2, final, "0.50"])
    found = results.figure4().splitlines()
    assert found[2] == "| Mixer | 50.00 ± 0.50 | 49.00 ± 0.50 | 25.00 ± 0.50 | 2 % | 50 % |"
    assert found[3] == "| paper, Mixer-B/16 on JFT-300M | - | - | - | 0 % | 45 % |"


def test_parts_of_the_data_are_columns(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_tables, "RESULTS", tmp_path)
    lines = [
        'model,fraction,"accuracy, %",std',
        "Mixer,0.03,20.00,",
        "Mixer,1.0,60.00,",
        "ViT,1.0,55.00,",
    ]
    (tmp_path / "figure2_right.csv").write_text("\n".join(lines) + "\n")
    found = results.figure2_right().splitlines()
    assert found == [
        "|  | 3% | 100% |",
        "| --- | ---: | ---: |",
        "| Mixer | 20.00 | 60.00 |",
        "| ViT | - | 55.00 |",
    ]


def test_runs_are_collected(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_tables, "RESULTS", tmp_path)
    for name, metrics in {
        "precision/float32-0": {"test/top1": 0.5},
        "precision/float32-1": {"test/top1": 0.6},
        "precision/bfloat16-0": {"test/top1": 0.55},
        "input/jft": {
            "decode_microseconds": 7.0,
            "threads_1_images_per_second": 100.0,
            "processes_2_images_per_second": 180.0,
            "grain_threads_images_per_second": 90.0,
            "tf_data_images_per_second": 60.0,
        },
    }.items():
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "results.json").write_text(json.dumps({"metrics": metrics}))
    results.collect(tmp_path / "runs")
    table = speed_results.precision().splitlines()
    assert table[2:] == [
        "| bfloat16 | 55.00 | - | 55.00 ± 0.00 |",
        "| float32 | 50.00 | 60.00 | 55.00 ± 7.07 |",
    ]
    assert speed_results.inputs().splitlines()[2] == "| jft | 100 | 180 | 90 | 60 | 2.00 | 3.00 |"
