"""Writes the results of the experiments, docs/results/*.csv, into README.md and the pages of docs.

    python tools/results.py [WORKDIR]

It replaces the table between the lines <!-- NAME --> and <!-- /NAME --> of each file.
experiments/results.sh fills docs/results first. Of the runs in WORKDIR/precision and WORKDIR/input
(experiments/precision.sh and input.sh) this script makes the tables itself.
"""

import json
import re
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the package need not be installed

from mixer.paper import published
from tools import speed_results
from tools.csv_tables import markdown, read, write

ROOT = Path(__file__).parents[1]
PAGES = ("reproduction", "performance", "plan", "input", "features")
FILES = (ROOT / "README.md", *(ROOT / "docs" / f"{page}.md" for page in PAGES))


def percent(line: dict[str, str]) -> str:
    """The accuracy in a line of a figure's CSV, with its standard deviation over seeds."""
    (accuracy,) = (value for name, value in line.items() if name.endswith(", %"))
    return f"{accuracy} ± {line['std']}" if line["std"] else accuracy


def figure4() -> str:
    """For each model the three cases at the last step, and how much lower the shuffled ones are."""
    last = {(line["model"], line["case"]): line for line in read("figure4")}
    drops = published.figure("figure4")["relative_drop_percent"]
    rows = []
    for model in dict.fromkeys(model for model, _ in last):
        cells = [percent(last[model, case]) for case in ("original", "patches", "pixels")]
        first, *moved = (float(cell.split()[0]) for cell in cells)
        rows.append([model, *cells, *(f"{100 * (1 - each / first):.0f} %" for each in moved)])
    for model, drop in drops.items():
        lower = (f"{drop[case]} %" if case in drop else "a lot" for case in ("patches", "pixels"))
        rows.append([f"paper, {model} on JFT-300M", "-", "-", "-", *lower])
    heading = (
        "(a) original",
        "(b) patches and pixels",
        "(c) all pixels",
        "(b) lower by",
        "(c) lower by",
    )
    return markdown(["", *heading], rows)


def figure2_right() -> str:
    """For each model the accuracy on each part of the data."""
    lines = read("figure2_right")
    parts = sorted({float(line["fraction"]) for line in lines})
    found = {(line["model"], float(line["fraction"])): percent(line) for line in lines}
    models = dict.fromkeys(line["model"] for line in lines)
    rows = [[model, *(found.get((model, part), "-") for part in parts)] for model in models]
    return markdown(["", *(f"{part:.0%}" for part in parts)], rows)


def appendix_a() -> str:
    """For each variant its accuracy, the difference to the Mixer, and the paper's words."""
    lines = [line for line in read("tables") if line["part"] == "appendix_a"]
    found = {(line["row"], line["column"]): line for line in lines}
    rows = []
    for model in dict.fromkeys(line["row"] for line in lines):
        against = found[model, "against_mixer"]
        ours = f"{float(against['ours']):+.2f}" if against["ours"] else "-"
        accuracy = f"{float(found[model, 'accuracy']['ours']):.2f}"
        rows.append([model, accuracy, ours, against["paper"] or "-"])
    return markdown(["", "top-1, %", "against the Mixer", "paper, 5-shot on JFT-300M"], rows)


def throughput() -> str:
    """For each model the images/s, and their ratio to the first model's next to the paper's."""
    lines = read("throughput")
    rate, ratio = "images/s/device", next(name for name in lines[0] if name.startswith("to "))
    columns = ("model", "batch", rate, ratio, "paper's")
    rows = [
        [line["model"], line["batch"], line[rate]]
        + [f"{float(line[c]):.2f}" if line[c] else "-" for c in (ratio, "paper's")]
        for line in lines
    ]
    return markdown(columns, rows)


def features() -> str:
    """What people expect, the command that shows it, and whether timm's package has it."""
    columns = ("", "", "command", "here", "timm")
    rows, group = [], ""
    for line in read("features"):
        command = "`" + line["run"].replace("|", "\\|") + "`"
        named = f"**{line['group']}**" if line["group"] != group else ""
        rows.append([named, line["what"], command, line["ours"] or "-", line["timm"] or "-"])
        group = line["group"]
    met = {who: sum(line[who] == "yes" for line in read("features")) for who in ("ours", "timm")}
    scripts = sum(line["timm"] not in ("yes", "no") for line in read("features"))
    rows.append(["", f"of {len(rows)}", "", str(met["ours"]), f"{met['timm']} + {scripts}"])
    return markdown(columns, rows, text=5)


TABLES: dict[str, tuple[str, Callable[[], str]]] = {
    "figure4": ("figure4", figure4),
    "figure2_right": ("figure2_right", figure2_right),
    "appendix_a": ("tables", appendix_a),
    "throughput": ("throughput", throughput),
    "precision": ("precision", speed_results.precision),
    "plans": ("plans", speed_results.plans),
    "references": ("tpu_references", speed_results.references),
    "bills": ("plans", speed_results.bills),
    "step_speed": ("step_speed", speed_results.step_speed),
    "input": ("input", speed_results.inputs),
    "features": ("features", features),
}


def filled(text: str) -> str:
    """A page with its tables replaced by those of the current results."""
    for name, (source, make) in TABLES.items():
        if read(source):
            between = re.compile(f"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
            text = between.sub(lambda m, make=make: f"{m[1]}\n{make()}\n\n{m[2]}", text)
    return text


def collect(workdir: Path) -> None:
    """Writes precision.csv and input.csv from the complete runs in WORKDIR."""
    top1 = {}
    for name, found in _results(workdir / "precision"):
        dtype, _, seed = name.rpartition("-")
        top1.setdefault(dtype, {})[f"seed {seed}"] = 100 * found["metrics"]["test/top1"]
    if top1:
        write("precision", [_with_mean(dtype, found) for dtype, found in sorted(top1.items())])
    rates = []
    for name, found in _results(workdir / "input"):
        suffix = "_images_per_second"
        measured = {k: v for k, v in found["metrics"].items() if k.endswith(suffix)}
        rates.append({"recipe": name} | {k.removesuffix(suffix): v for k, v in measured.items()})
    if rates:
        write("input", rates)


def _results(folder: Path) -> list[tuple[str, dict]]:
    files = sorted(folder.glob("*/results.json"))
    return [(file.parent.name, json.loads(file.read_text())) for file in files]


def _with_mean(dtype: str, found: dict[str, float]) -> dict[str, str]:
    values = list(found.values())
    deviation = statistics.stdev(values) if len(values) > 1 else 0
    shown = {name: f"{value:.2f}" for name, value in sorted(found.items())}
    mean = f"{statistics.mean(values):.2f} ± {deviation:.2f}"
    return {"precision": dtype} | shown | {"mean": mean}


if __name__ == "__main__":
    for folder in sys.argv[1:]:
        collect(Path(folder))
    for page in FILES:
        page.write_text(filled(page.read_text()))
