"""Plans the Mixers' pretraining on TPU slices: docs/results/plans.csv, for tables in docs.

    python tools/plan_tables.py --workdir=runs/plans
    python tools/results.py

It needs requirements-tpu-plan.txt, but no TPU. Each line of the file is a `config.run=plan` of
imagenet.py with batches of 4,096 and the defaults for the slice; those of
B/16 and L/16 also on two slices. A plan that is in WORKDIR is not made again, even if the code has
changed.
"""

import argparse
import contextlib
import io
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the package need not be installed

from configs import imagenet
from mixer.runs import plan
from tools.csv_tables import write

MODELS = ("B/16", "L/16", "H/14", "S/32", "S/16", "B/32", "L/32")
SLICES = ("v3-128", "v5litepod-64", "v6e-64", "v3-8", "v5litepod-16")
# (slice, number of slices, model)
PLANS = [
    *((name, 1, model) for model in MODELS for name in SLICES),
    *((name, 2, model) for model in ("B/16", "L/16") for name in SLICES),
]
# What plans.csv has of a plan's metrics.
METRICS = (
    *("fits", "micro_batches", "parameters_bytes", "optimizer_bytes", "temporary_bytes"),
    *("peak_bytes", "capacity_bytes", "flops", "ideal_flops", "accessed_bytes", "cycles"),
    *("step_seconds", "images_per_second_per_host", "hours", "device_days"),
)


def planned(workdir: Path, name: str, slices: int, model: str) -> dict:
    """The content of the plan's results.json."""
    config = imagenet.get_config(f"Mixer-{model}", "plan")
    config.plan.update(topology=name, slices=slices)
    folder = workdir / f"{slices}x{name}-{model.replace('/', '_')}"
    with contextlib.redirect_stdout(io.StringIO()):
        plan.run(config, str(folder), f"imagenet:Mixer-{model}")
    return json.loads((folder / "results.json").read_text())


def line(name: str, slices: int, model: str, found: dict) -> dict:
    """A line of plans.csv."""
    each = {key.removeprefix("plan/"): value for key, value in found["metrics"].items()}
    sent = sum(value for key, value in each.items() if key.startswith("sent_by_"))
    return {
        "slice": name,
        "slices": slices,
        "devices": found["devices"],
        "model": model,
        "precision": found["precision"],
        "fsdp": found["mesh"]["fsdp"],
        **{metric: each.get(metric) for metric in METRICS},
        "sent_bytes": sent,
    }


def main() -> None:
    """Makes the missing plans and writes the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--slices", default=",".join(SLICES), help="only plan for these")
    args = parser.parse_args()
    workdir = args.workdir.expanduser().absolute()
    lines = []
    for each in PLANS:
        if each[0] in args.slices.split(","):
            print(*each, flush=True)
            lines.append(line(*each, planned(workdir, *each)))
    write("plans", lines)


if __name__ == "__main__":
    main()
