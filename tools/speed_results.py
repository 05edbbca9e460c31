"""The tables of docs/plan.md and docs/performance.md, for tools/results.py."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the package need not be installed

from mixer.paper import published, rows
from tools.csv_tables import markdown, read

# The devices of a slice, by its name in Cloud TPU.
COUNTED = {"v3": "cores", "v5litepod": "chips", "v6e": "chips"}
_BATCH = 4096


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
    """For each row of table 3 with a cost the paper's, and ours on each slice that was planned."""
    planned = {(x["model"], x["slice"]): x for x in read("plans") if x["slices"] == "1"}
    models = dict.fromkeys(f"Mixer-{model}" for model, _ in planned)
    slices = [x for x in dict.fromkeys(s for _, s in planned) if _complete(x, planned, models)]
    found = [
        [model, data, f"{epochs:g}", f"{1000 * cost:,.0f}"]
        + [
            _bill(planned[model.removeprefix("Mixer-"), name], rows.IMAGES[data] * epochs)
            for name in slices
        ]
        for model, data, epochs, cost in _costs(models)
    ]
    heads = [f"{name}: {COUNTED[name.split('-')[0]][:-1]}-days (hours)" for name in slices]
    return markdown(["model", "pretrained on", "epochs", "paper: core-days", *heads], found, 2)


def _complete(name: str, planned: dict, models: Iterable[str]) -> bool:
    return all((model.removeprefix("Mixer-"), name) in planned for model in models)


def _costs(models: Iterable[str]) -> Iterator[tuple[str, str, float, float]]:
    """(model, dataset, epochs, thousands of core-days) of the paper's pretrainings."""
    seen = set()
    for row in published.table("table3"):
        key = row["model"], row["pretrained_on"], row["pretraining_epochs"]
        if row["model"] in models and row.get("cost") and key not in seen:
            seen.add(key)
            yield *key, row["cost"]


def _bill(line: dict[str, str], images: float) -> str:
    hours = float(line["step_seconds"]) * images / _BATCH / 3600
    days = hours / 24 * int(line["devices"])
    return f"{days:,.0f} ({hours:,.1f})" if days >= 10 else f"{days:.1f} ({hours:.1f})"


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
    found = [[x["precision"], *(x[seed] for seed in seeds), x["mean"]] for x in lines]
    return markdown(["precision", *seeds, "mean ± deviation"], found)
