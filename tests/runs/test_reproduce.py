"""A row of the paper from nothing to the table, on digits; and tables from any workdirs."""

import csv
import importlib
import json
import time
from pathlib import Path

import pytest
from runs_command import run, start

from mixer import errors
from mixer.paper import rows
from mixer.runs import keys, reproduce, tables

ROOT = Path(__file__).parents[2]
LABEL = "Mixer-S/16, jft, 5 epochs, 224"
WORDS = "configs/paper.py:table3,Mixer-S/16,jft"
# These models are large enough that optimised programs repay their compilation.
OPTIMIZED = {"XLA_FLAGS": ""}
(ROW,) = (row for row in rows.rows(smoke=True) if row.part == "table3" and row.label == LABEL)


@pytest.mark.long(minutes=2)
def test_a_row_from_nothing_to_the_table_killed_on_the_way(data_dir, tmp_path):
    place = tmp_path / "paper"
    process = start(data_dir, f"{WORDS},smoke", place, **OPTIMIZED)
    pretraining, first, second = (place / r.folder / "results.json" for r in ROW.runs[:3])
    end = time.monotonic() + 200
    while not first.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)
    process.kill()
    process.communicate()
    assert pretraining.exists() and not second.exists()
    done = [(file, file.read_bytes(), file.stat().st_mtime_ns) for file in (pretraining, first)]
    code, out, err = run(data_dir, f"{WORDS},smoke", place, **OPTIMIZED)
    assert code == 0, err
    assert [(f, f.read_bytes(), f.stat().st_mtime_ns) for f, *_ in done] == done
    results = json.loads((place / "results.json").read_text())
    assert results["run"] == "reproduce" and results["device_days"] > 0
    number = {c: results["metrics"][f"table3/{LABEL}/{c}"] for c in ROW.published}
    sweeps = [json.loads((place / r.folder / "results.json").read_text()) for r in ROW.runs[1:6]]
    assert number["imagenet"] == pytest.approx(sweeps[0]["metrics"]["test/top1"])
    assert number["real"] == pytest.approx(sweeps[0]["metrics"]["real/top1"])
    mean = sum(each["metrics"]["test/top1"] for each in sweeps) / 5
    assert number["avg5"] == pytest.approx(mean)
    upstream = sweeps[3]["upstream"]
    assert upstream["path"] == str(place / ROW.runs[0].folder)
    assert number["throughput"] > 0 and number["cost"] > 0
    (speed,) = csv.DictReader((place / ROW.runs[-1].folder / "throughput.csv").open())
    assert float(speed["images/s/device"]) == pytest.approx(number["throughput"], abs=0.01)
    assert "Ours is a smoke test" in (place / "tables.md").read_text()
    lines = list(csv.DictReader((place / "tables.csv").read_text().splitlines()))
    assert len(lines) == 5 and all(line["ours"] for line in lines)
    code, out, _ = run(data_dir, f"{WORDS},smoke", place, **OPTIMIZED)
    assert code == 0 and "complete:" in out


@pytest.fixture
def config():
    module = importlib.import_module("configs.paper")
    return module.get_config


def test_the_listing_has_every_command_and_its_cost_and_does_nothing(config, tmp_path, capsys):
    asked = config("table3,Mixer-B/16,imagenet2012")
    asked.reproduce.list = True
    reproduce.run(keys.track(asked), str(tmp_path / "none"), "")
    lines = capsys.readouterr().out.splitlines()
    assert not (tmp_path / "none").exists()
    commands = [line for line in lines if line.startswith("python main.py")]
    assert len(commands) == 7 and "--config.run=throughput" in commands[-1]
    assert all("--config.init_from=" in line for line in commands[1:6])
    (pretraining,) = [line for line in lines if line.startswith("| pretraining")]
    cells = [cell.strip() for cell in pretraining.split("|")[1:-1]]
    # 12.6 GMACs, three times as many in training, 300 epochs, at the peak of a core: 5.4 days.
    days = 12.6e9 * 6 * 300 * 1_268_355 / 61.5e12 / 86400
    assert 1.2 * days < float(cells[3].split()[0]) < 2 * days
    assert cells[-1] == "10"
    (all_of_it,) = [line for line in lines if line.startswith("| all")]
    costs = [float(line.split("|")[4].split()[0]) for line in lines if line.startswith("| table3")
             and line.split("|")[4].strip() != "-"]  # fmt: skip
    assert len(costs) == 5
    total = float(all_of_it.split("|")[4].split()[0])
    assert total == pytest.approx(sum(costs) + float(cells[3].split()[0]), rel=0.01)
    # The documents show this very bill.
    numbers = [line.split("|", 2)[2] for line in lines if line.startswith("| ")]
    shown = (ROOT / "docs/reproduction.md").read_text()
    bill = shown.partition("\n## The bill\n")[2].partition("\n## ")[0].splitlines()
    of_trainings = [row for row in numbers if not row.startswith(" - | - | - ")]
    assert [line.split("|", 2)[2] for line in bill if line.startswith("| ")] == of_trainings
    assert f"an estimate: {total} device-days" in (ROOT / "README.md").read_text()


def test_the_listing_with_prices(config, tmp_path, capsys):
    asked = config("table3,Mixer-B/16,imagenet2012")
    asked.reproduce.update(list=True, accelerators=("v3-8", "H100"), prices=(2.0, 5.0))
    reproduce.run(keys.track(asked), str(tmp_path / "none"), "")
    (line,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("| pretraining")]
    for cell, price in zip(line.split("|")[4:6], (2.0, 5.0), strict=True):
        days, _, cost = cell.replace(",", "").split()
        assert float(cost) == pytest.approx(float(days) * 24 * price, rel=0.02)
    asked.reproduce.prices = (2.0,)
    with pytest.raises(errors.BadInput, match="a number for each of the 2 .*accelerators"):
        reproduce.run(keys.track(asked), str(tmp_path / "none"), "")


def test_a_published_file_replaces_one_pretraining(config, tmp_path, capsys):
    asked = config("table3,Mixer-B/16,imagenet21k")
    asked.reproduce.list, asked.init_from = True, "Mixer-B/16:imagenet21k"
    reproduce.run(keys.track(asked), str(tmp_path / "none"), "")
    out = capsys.readouterr().out
    assert "pretraining-" not in out and "--config.init_from=Mixer-B/16:imagenet21k" in out
    asked = config("table3,Mixer-B/16")
    asked.init_from = "Mixer-B/16:imagenet21k"
    with pytest.raises(errors.BadInput, match="would replace 3 pretrainings"):
        reproduce.run(keys.track(asked), str(tmp_path / "none"), "")


def test_runs_without_data_are_left_out_with_the_command_that_prepares_them(
    config, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "nothing"))
    asked = config("figure4,BiT-R50x1")
    asked.runtime.data_dir = str(tmp_path / "nothing")
    reproduce.run(keys.track(asked), str(tmp_path / "paper"), "")
    out = capsys.readouterr().out
    for case in ("original", "patches", "pixels"):
        assert f"figure4-BiT-R50x1-{case}/training is left out: " in out
        assert f"{case}/fewshot: waits for figure4-BiT-R50x1-{case}/training" in out
    assert not (tmp_path / "paper" / "results.json").exists()


def test_unknown_rows_list_the_known_ones(config):
    with pytest.raises(errors.BadInput, match="table2 has no row for these words. It has: Mixer-L"):
        config("table2,Mixer-S/16")


def finished(path, **changes):
    """The workdir of a sweep with the recipe's keys, or with other ones."""
    module = importlib.import_module("configs.sweep")
    content = keys.flat(keys.as_json(module.get_config("Mixer-B/16,cifar10,224")))
    content |= changes.pop("config", {})
    nested = {}
    for key, value in content.items():
        group = nested
        *groups, name = key.split(".")
        for part in groups:
            group = group.setdefault(part, {})
        group[name] = value
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(nested))
    results = {
        "run": "sweep",
        "model": "Mixer-B/16",
        "dataset": "cifar10",
        "resolution": 224,
        "seed": None,
        "upstream": {"dataset": "imagenet2012", "epochs": 300.0},
        "metrics": {"test/top1": 0.9},
        "device_kind": "cpu",
        "device_days": 0.1,
    }
    (path / "results.json").write_text(json.dumps(results | changes))


def collect(tmp_path, *paths):
    asked = importlib.import_module("configs.quickstart").get_config("", "tables")
    asked.tables.workdirs = ",".join(map(str, paths))
    tables.run(keys.track(asked), str(tmp_path / "tables"), "")
    return (tmp_path / "tables" / "tables.md").read_text()


def test_tables_use_matching_results_and_list_the_others(tmp_path):
    finished(tmp_path / "a" / "good")
    finished(tmp_path / "a" / "good" / "trials" / "part")  # a part of it does not count as a result
    finished(tmp_path / "a" / "short", config={"schedule.warmup": "9 steps"})
    finished(tmp_path / "a" / "quick", config={"input.fast_decode": True})
    finished(tmp_path / "a" / "other", dataset="svhn_cropped")
    text = collect(tmp_path, tmp_path / "a")
    taken, rest = text.split("Used:")[1].split("Not used:")
    assert f"cifar10: {tmp_path}/a/good (cpu)" in taken and "short" not in taken
    assert "short: differs from the protocol of" in rest and "schedule.warmup='9 steps'" in rest
    assert "quick: differs from the protocol of" in rest and "input.fast_decode=True" in rest
    assert "other: in no row (sweep, Mixer-B/16, svhn_cropped, 224)" in rest
    assert "configs/sweep.py:Mixer-B/16,cifar100,224 --config.init_from=PRETRAINED" in rest


def test_appendix_a_is_compared_with_the_mixer(tmp_path):
    module = importlib.import_module("configs.ablations")
    for model, top1 in (("Mixer-S/32", 0.5), ("ViewsMixer-S/32", 0.53)):
        config = module.get_config(f"{model},imagenet2012")
        path = tmp_path / "runs" / model.replace("/", "_")
        path.mkdir(parents=True)
        (path / "config.json").write_text(json.dumps(keys.as_json(config)))
        results = {
            "run": "train",
            "protocol": f"ablations:{model}",
            "model": model,
            "dataset": "imagenet2012",
            "resolution": 224,
            "epochs": 300.0,
            "seed": 0,
            "params": 1_000_000,
            "metrics": {"val/top1": top1},
        }
        (path / "results.json").write_text(json.dumps(results))
    text = collect(tmp_path, tmp_path / "runs")
    assert "## appendix_a" in text and "Appendix A's accuracy: Top-1 on validation images" in text
    better = "3-4 better (top-5, S/32), none if larger / 3.00 / -"
    assert f"| ViewsMixer-S/32 | - / 53.00 / - | {better} |" in text
    metrics = json.loads((tmp_path / "tables" / "results.json").read_text())["metrics"]
    assert metrics["appendix_a/ViewsMixer-S/32/accuracy"] == 0.53


def test_one_experiment_does_not_count_twice(tmp_path):
    finished(tmp_path / "one")
    finished(tmp_path / "two")
    with pytest.raises(errors.BadInput, match="one and .*two are both table3-.*with seed None"):
        collect(tmp_path, tmp_path / "*")
    with pytest.raises(errors.BadInput, match="neither '.*nowhere' nor .* has a results.json"):
        collect(tmp_path, tmp_path / "nowhere")
