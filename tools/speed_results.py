"""The tables of docs/plan.md and docs/performance.md, for tools/results.py."""

import functools
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the package need not be installed

import mixer
from mixer.paper import published, rows
from mixer.planning import peaks
from mixer.runs import estimate
from tools.csv_tables import markdown, read

# What a device of a slice is, by the slice's name in Cloud TPU.
COUNTED = {"v3": "core", "v5litepod": "chip", "v6e": "chip"}
LARGE = ("v3-128", "v5litepod-64", "v6e-64")
_BATCH, _SIZE = 4096, 224


def _gib(size: str) -> str:
    return f"{float(size) / 2**30:.2f}"


def plans() -> str:
    """What a step of each Mixer needs on each slice by default."""
    found = [
        [
            line["slice"] if line["slices"] == "1" else f"{line['slices']} x {line['slice']}",
            f"Mixer-{line['model']}",
            line["fsdp"],
            line["micro_batches"],
            f"{_gib(line['peak_bytes'])} of {_gib(line['capacity_bytes'])}",
            f"{float(line['flops']) / float(line['ideal_flops']):.3f}",
            f"{float(line['accessed_bytes']) / 1e9:.1f}",
            f"{float(line['sent_bytes']) / 2**20:,.0f}",
            f"{float(line['step_seconds']) * 1e3:.1f}",
            f"{float(line['images_per_second_per_host']):,.0f}",
        ]
        for line in read("plans")
    ]
    heading = ["slice", "model", "fsdp", "micro-batches", "peak, GiB", "FLOPs / equal share"]
    heading += ["memory traffic, GB", "sent, MiB", "step, ms", "images/s per host"]
    return markdown(heading, found, 2)


def _as_planned(line: dict[str, str]) -> dict[str, str]:
    return line | {"code": "ours, by default"}


def references() -> str:
    """Our default steps beside those of other code."""
    others = read("tpu_references")
    ours = [_as_planned(line) for line in read("plans") if line["slices"] == "1"]
    found = []
    for place in dict.fromkeys((line["slice"], line["model"]) for line in others):
        same = [x for x in [*others, *ours] if (x["slice"], x["model"]) == place]
        first = same[0]
        for line in same:
            cells = [*place, line["code"], f"{float(line['flops']) / 1e12:.3f}"]
            for key, unit in (("accessed_bytes", 1e9), ("temporary_bytes", 2**30), ("cycles", 1e6)):
                ratio = float(line[key]) / float(first[key])
                cells.append(f"{float(line[key]) / unit:.2f} ({ratio:.2f})")
            found.append([*cells, f"{float(line['sent_bytes']) / 2**20:,.0f}"])
    heading = ["slice", "Mixer", "code", "TFLOP", "memory traffic, GB", "temporary, GiB"]
    return markdown([*heading, "cycles, millions", "sent, MiB"], found, 3)


def bills() -> str:
    """For each Mixer of table 3 with a cost the paper's, and ours on each of the large slices."""
    planned = {(x["model"], x["slice"]): x for x in read("plans") if x["slices"] == "1"}
    found = []
    for model, data, epochs, cost in _costs():
        cells = [model, data, f"{epochs:g}", f"{1000 * cost:,.0f}"]
        for name in LARGE:
            line = planned.get((model.removeprefix("Mixer-"), name))
            seconds = float(line["step_seconds"]) if line else _estimate(model, name)
            _, devices = peaks.by_product_name(name)
            hours = seconds * rows.IMAGES[data] * epochs / _BATCH / 3600
            days = hours / 24 * devices
            digits = 0 if days >= 10 else 1
            about = "" if line else "≈ "
            cells.append(f"{about}{days:,.{digits}f} ({hours:,.1f})")
        found.append(cells)
    heads = [f"{name}: {COUNTED[name.split('-')[0]]}-days (hours)" for name in LARGE]
    return markdown(["model", "pretrained on", "epochs", "paper: core-days", *heads], found, 2)


def _costs() -> Iterator[tuple[str, str, float, float]]:
    """(model, dataset, epochs, thousands of core-days) of the pretrainings of Mixers."""
    seen = set()
    for row in published.table("table3"):
        key = row["model"], row["pretrained_on"], row["pretraining_epochs"]
        if row["model"].startswith("Mixer") and row.get("cost") and key not in seen:
            seen.add(key)
            yield *key, row["cost"]


@functools.cache
def _estimate(model: str, name: str) -> float:
    """Seconds of a step that was not compiled."""
    peak, devices = peaks.by_product_name(name)
    load = estimate.load_of(mixer.create_model(model, num_classes=1000), (_SIZE, _SIZE))
    return load.step_seconds(_BATCH, devices, peak)


def step_speed() -> str:
    """Our steps on a CPU beside the paper's listing."""
    lines = read("step_speed")
    found = [
        [x["model"], x["step"], x["batch"], x["listing, ms"], x["A/A"], x["ours"], x["timm"]]
        for x in lines
    ]
    heading = ["model", "step", "batch", "listing, ms", "A/A", "ours", "timm"]
    return markdown(heading, found, 2)


def inputs() -> str:
    """Images/s of our input pipeline, of Grain's own and of tf.data."""
    lines = read("input")
    columns = [name for name in lines[0] if name != "recipe"]
    best = [
        max(float(x[c]) for c in columns if c.startswith(("threads", "processes"))) for x in lines
    ]
    found = [
        [line["recipe"], *(f"{float(line[c]):,.0f}" for c in columns)]
        + [f"{top / max(float(line[c]) for c in columns if c.startswith(other)):.2f}"
           for other in ("grain", "tf_data")]
        for line, top in zip(lines, best, strict=True)
    ]  # fmt: skip
    names = [name.replace("_", " ") for name in columns]
    return markdown(["recipe", *names, "best / Grain", "best / tf.data"], found)


def precision() -> str:
    """Top-1 on the test images of the same training in both precisions."""
    lines = read("precision")
    seeds = [name for name in lines[0] if name.startswith("seed")]
    found = [[x["precision"], *(x[seed] or "-" for seed in seeds), x["mean"]] for x in lines]
    return markdown(["precision", *seeds, "mean ± deviation"], found)
