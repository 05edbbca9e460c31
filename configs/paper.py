r"""A row of the paper's table, from nothing to the number: every run behind it, in order.

    python main.py --config=configs/paper.py:table3,Mixer-B/16,imagenet2012 --workdir=runs/paper \
      --config.reproduce.list=True

lists the runs of that row, their commands, and what they cost; without the last key it does them:
the pretraining, the sweeps on ImageNet, CIFAR-10, CIFAR-100, Pets and Flowers, ReaL (measured by
the sweep on ImageNet), VTAB-1k (table 2), the throughput. At the end the table is in
WORKDIR/tables.md, .csv and .tex: "paper / ours / difference".

Words: table2, table3, figure2_right or figure4; then, to take only some of its rows, a model, what
it was pretrained on (imagenet2012, imagenet21k, jft), a resolution. `smoke` does the same chain
with the smoke test of each recipe, in a few minutes on a CPU.

Each run has a workdir of its own below WORKDIR, and is a run like any other: killed, it goes on;
complete, it is not done again. Rows that start from the same pretraining share it. A run whose data
are not there is left out, with the command that prepares them; give the same command again once
they are. --config.init_from=NAME (a published file, a workdir) takes the place of the pretraining.
On n machines that see the same workdir, give each --config.reproduce.machines=n and its number from
0, --config.reproduce.machine.

The cost is that of the training steps: FLOPs by the model's equations, at a share of the peak that
--config.reproduce.share states, on --config.reproduce.accelerators. Runs of other workdirs are put
into the same tables by --config.run=tables (--config.tables.workdirs=).
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
