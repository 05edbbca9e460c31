r"""Reproduces rows of the paper's tables from scratch: every run behind them, in order.

    python main.py --config=configs/paper.py:table3,Mixer-B/16,imagenet2012 --workdir=runs/paper \
      --config.reproduce.list=True

lists the runs of that row, their commands, and what they cost; without the last key it runs them:
the pretraining, the sweeps on ImageNet, CIFAR-10, CIFAR-100, Pets and Flowers, ReaL (measured by
the sweep on ImageNet), VTAB-1k (table 2), the throughput. At the end the table is in
WORKDIR/tables.md, .csv and .tex: "paper / ours / difference".

Words: table2, table3, figure2_right or figure4; then, to select some of its rows, a model, its
pretraining dataset (imagenet2012, imagenet21k, jft), a resolution. `smoke` runs the same chain with
each recipe's smoke test, in a few minutes on a CPU.

Each run has its own workdir below WORKDIR and behaves like any other run: if killed, it resumes; if
complete, it is not repeated. Rows that start from the same pretraining share it. A run whose data
are missing is skipped, and the command that prepares them is printed; repeat the same command once
they are prepared. --config.init_from=NAME (a published file, a workdir) replaces the pretraining.
On n machines that share the workdir, give each --config.reproduce.machines=n and its index from 0,
--config.reproduce.machine.

The cost is an estimate for --config.reproduce.accelerators, whose device-hours may be given as
--config.reproduce.prices; it covers training, and the evaluations of pretraining.
--config.run=tables (--config.tables.workdirs=) puts
runs from other workdirs into the same tables.
"""

from configs import arguments, common, upstream
from mixer import errors
from mixer.paper import rows


def get_config(words: str = "", run: str = "reproduce"):
    """Takes a table or figure, a model, a dataset, a resolution and `smoke`."""
    parts = ("table3", "table2", "figure2_right", "figure4")
    args = arguments.parse(
        words, model="", dataset="", resolution=0, datasets=upstream.DATASETS, choices=parts
    )
    config = common.base(args, run, model=args.model or "Mixer-B/16")
    if "reproduce" in config:
        config.reproduce.update(smoke=args.smoke, rows=_selected(args))
    return config


def _selected(args: arguments.Arguments) -> tuple[str, ...]:
    of_part = [row for row in rows.rows() if row.part == args.choice]
    found = [
        row.label
        for row in of_part
        if args.model in ("", row.model)
        and args.dataset in ("", row.pretrained_on)
        and args.resolution in (0, row.image_size)
    ]
    if not found:
        raise errors.BadInput(
            f"{args.choice} has no row for these words. It has: "
            + "; ".join(row.label for row in of_part)
        )
    return tuple(f"{args.choice}: {label}" for label in found)
