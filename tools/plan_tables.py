"""Writes the tables of docs/plan.md: the cost of the Mixers on TPU slices, by the TPU compiler.

    python tools/plan_tables.py --workdir=runs/plans

It needs requirements-tpu-plan.txt, but no TPU. Each row is a `config.run=plan` of imagenet.py with
batches of 4,096 in bfloat16 and scanned blocks. If a model does not fit, it tries more
rematerialisation, then 2, 4, ... micro-batches. Plans that are in WORKDIR already are not made
again, even if the code has changed. It writes WORKDIR/tables.md.
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

GIB = 2**30
MODELS = ("S/32", "S/16", "B/32", "B/16", "L/32", "L/16", "H/14")
# {name in Cloud TPU, which counts cores for v3 and v4: (topology in chips, number of JAX devices)}.
SLICES = {
    "v3-8": ("v3:2x2", 8),
    "v3-128": ("v3:8x8", 128),
    "v4-32": ("v4:2x2x4", 16),
    "v5e-16": ("v5e:4x4", 16),
    "v6e-64": ("v6e:8x8", 64),
}
SCALING = {"v3-8": ("v3:2x2", 8), "v3-64": ("v3:4x8", 64), "v3-512": ("v3:16x16", 512)}
# More devices than this along fsdp do not divide the 640 hidden units of H/14's token mixing.
MOST_FSDP = 128
LEVERS = [("none", 1), ("dots", 1), *(("full", 2**i) for i in range(10))]


def planned(workdir: Path, name: str, where: tuple[str, int], strategy: str, tensor: int = 1):
    """(remat, micro-batches, results.json) of the first plan that fits; else (None, None, last)."""
    topology, devices = where
    for remat, parts in LEVERS:
        config = imagenet.get_config(f"Mixer-{name}", "plan")
        config.run, config.micro_batches = "plan", parts
        config.model.dtype, config.plan.topology = "bfloat16", topology
        config.runtime.update(strategy=strategy, scan=True, remat=remat)
        fsdp = min(devices // tensor, MOST_FSDP) if strategy != "replicate" else 1
        config.runtime.mesh.update(data=-1, fsdp=fsdp, tensor=tensor)
        if config.batch_size % (parts * devices // tensor):
            break
        parts_of_name = (name.replace("/", "_"), topology.replace(":", "_"), strategy, remat, parts)
        folder = workdir / "-".join(map(str, parts_of_name))
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            plan.run(config, str(folder), f"imagenet:Mixer-{name}")
        results = json.loads((folder / "results.json").read_text())
        if results["metrics"]["plan/fits"]:
            return remat, parts, results
    return None, None, results


def row(found: tuple) -> list[str]:
    """The cells that both tables share."""
    remat, parts, results = found
    each = {k.removeprefix("plan/"): v for k, v in results["metrics"].items()}
    state = each["parameters_bytes"] + each["optimizer_bytes"]
    cells = ["no" if remat is None else "yes", f"{state / GIB:.2f}"]
    if remat is None:
        return [*cells, *["-"] * 5]
    sent = ", ".join(
        f"{kind.removeprefix('sent_by_').removesuffix('_bytes')} {size / 2**20:,.0f}"
        for kind, size in sorted(each.items())
        if kind.startswith("sent_by_") and size >= 2**20
    )
    return [
        *cells,
        f"{each['peak_bytes'] / GIB:.2f} of {each['capacity_bytes'] / GIB:.2f}",
        remat,
        str(parts),
        f"{each['flops'] / each['ideal_flops']:.3f}",
        sent,
    ]


def closed_form(results: dict, strategy: str, parts: int, devices: int, fsdp: int) -> float:
    """The least a device must send per step, in MiB, in rings and with kernels in bfloat16.

    In each micro-batch, replicate sends the gradients; fsdp sends the kernels in the forward and
    the backward pass, and scatters the gradients.
    """
    size = 2 * results["params"]

    def share(n):
        return (n - 1) / n

    if strategy == "replicate":
        total = 2 * share(devices) * size
    else:
        total = 3 * share(fsdp) * size + 2 * share(devices // fsdp) * size / fsdp
    return parts * total / 2**20


def markdown(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


SHARED = [
    "fits",
    "state, GiB",
    "peak, GiB",
    "remat",
    "micro-batches",
    "FLOPs / equal share",
    "sent, MiB",
]


def main() -> None:
    """Makes the missing plans and writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, required=True)
    workdir = parser.parse_args().workdir.expanduser().absolute()
    rows = []
    for chips, where in SLICES.items():
        for name in MODELS:
            for strategy in ("replicate", "fsdp"):
                print(f"{name} on {chips}, {strategy}", flush=True)
                rows.append([chips, name, strategy, *row(planned(workdir, name, where, strategy))])
    text = markdown(["slice", "Mixer", "strategy", *SHARED], rows)
    rows = []
    for chips, where in SCALING.items():
        for strategy, tensor in (("replicate", 1), ("fsdp", 1), ("tensor", 2)):
            print(f"H/14 on {chips}, {strategy}", flush=True)
            found = planned(workdir, "H/14", where, strategy, tensor)
            remat, parts, results = found
            cells = [chips, strategy, *row(found)]
            if remat is not None:
                fsdp = min(where[1], MOST_FSDP)
                sent = sum(v for k, v in results["metrics"].items() if "/sent_by_" in k)
                flops = results["metrics"]["plan/flops"]
                form = f"{closed_form(results, strategy, parts, where[1], fsdp):,.0f}"
                cells += [form if tensor == 1 else "-", f"{sent / flops * 1e6:.1f}"]
            rows.append(cells)
    head = ["slice", "strategy", *SHARED, "closed form, MiB", "bytes sent per MFLOP"]
    text += "\n\n" + markdown(head, rows) + "\n"
    (workdir / "tables.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
