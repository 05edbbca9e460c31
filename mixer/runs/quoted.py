"""The cost of runs that have not been made, on several accelerators, as a Markdown table."""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence

from ml_collections import ConfigDict

import mixer
from mixer import errors
from mixer.data.sources import vtab_tasks
from mixer.models import registry
from mixer.paper import rows
from mixer.paper.rows import Run
from mixer.planning import peaks
from mixer.runs import bill, estimate, keys, sweep
from mixer.runs.bill import Work
from mixer.runs.estimate import Load
from mixer.training import durations

_PRETRAINING_SIZE = 224


@dataclasses.dataclass(frozen=True)
class Trainings:
    """All trainings of a run that have the same model and resolution."""

    load: Load
    work: Work

    @property
    def images(self) -> int:
        """Images of all training steps."""
        return self.work.steps * self.work.batch_size


def trainings_of(run: Run, config: ConfigDict) -> list[Trainings]:
    """The trainings of a run; for pretraining with the evaluations whose size is known."""
    if config.run not in ("train", "sweep", "vtab"):
        return []
    if config.run == "train":
        work = bill.work_of(config, published=True)
        return [Trainings(_load(config.model.name, config.image_size[0], bool(run.after)), work)]
    count = sum(map(len, sweep.checked(config)))
    steps = durations.to_steps(
        config.total, config.batch_size, rows.IMAGES.get(config.dataset, 1), "total"
    )
    work = Work(count * steps, config.batch_size, 0, ())
    sizes = [config.image_size[0]]
    if config.run == "vtab":
        sizes = sizes * len(vtab_tasks.TASKS)
        if config.dataset.startswith("vtab:"):  # else it is a smoke test
            sizes = [
                config.vtab.resolution or vtab_tasks.task(name).resolution()
                for name in vtab_tasks.TASKS
            ]
    return [Trainings(_load(config.model.name, size, True), work) for size in sizes]


@functools.cache
def _load(name: str, size: int, fine_tuned: bool) -> Load:
    """A Mixer that is fine-tuned above 224 is enlarged as in appendix C."""
    model = registry.create_model(name, num_classes=1000)
    if fine_tuned and size > _PRETRAINING_SIZE:
        model = mixer.at_resolution(model, size, _PRETRAINING_SIZE)
    return estimate.load_of(model, (size, size))


def table(
    runs: Mapping[str, Sequence[Trainings]], paper: Mapping[str, float], asked: ConfigDict
) -> list[str]:
    """Lines with the cost of each run and of all.

    Args:
      runs: {folder: its trainings}.
      paper: {folder: thousands of TPUv3 core-days in the paper}.
      asked: `config.reproduce`.

    Raises:
      BadInput: an unknown accelerator, or another number of prices than of accelerators.
    """
    accelerators = {name: peaks.by_product_name(name) for name in asked.accelerators}
    prices = tuple(asked.prices) or (0,) * len(accelerators)
    if len(prices) != len(accelerators):
        raise errors.BadInput(
            f"config.reproduce.prices={prices}: expected a number for each of the "
            f"{len(accelerators)} config.reproduce.accelerators"
        )
    keys.within(0, math.inf, **{"reproduce.prices": min(prices, default=0)})
    what = "device_days (days)" + ", cost" * any(prices)
    heads = [f"{name}: {what}" for name in accelerators]
    lines = [
        f"estimates, if no device waits for data ({estimate.ERROR}):",
        "",
        "| run | images | EFLOP | " + " | ".join(heads) + " | paper, TPUv3 core-days |",
        "| --- | ---: | ---: |" + " ---: |" * (len(heads) + 1),
    ]
    every = [each for trainings in runs.values() for each in trainings]
    for name, trainings in [*runs.items(), ("all", every)]:
        images = 0 if trainings is every else sum(each.images for each in trainings)
        work = math.fsum(each.images * each.load.flops for each in trainings)
        cells = [name, f"{images:,}" if images else "-", f"{work / 1e18:,.4g}" if work else "-"]
        for (peak, devices), price in zip(accelerators.values(), prices, strict=True):
            cells.append(_cost(trainings, peak, devices, price))
        cells.append(f"{1000 * paper[name]:,.0f}" if name in paper else "-")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _cost(trainings: Sequence[Trainings], peak: peaks.Peak, devices: int, price: float) -> str:
    if not trainings:
        return "-"
    bills = [
        each.work.bill(each.load.step_seconds(each.work.batch_size, devices, peak), devices, price)
        for each in trainings
    ]
    days = math.fsum(each.device_days for each in bills)
    cost = f", {math.fsum(each.cost for each in bills):,.0f}" if price else ""
    return f"{days:,.3g} ({days / devices:,.3g}){cost}"
