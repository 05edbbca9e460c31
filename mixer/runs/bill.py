"""Computes the hours, device-days and cost of a training from the time of one step."""

import dataclasses
import math

from ml_collections import ConfigDict

from mixer import errors
from mixer.data.sources import splits
from mixer.paper import rows
from mixer.runs.data import open_data, training_source
from mixer.runs.evaluations import splits_of
from mixer.runs.sam import passes
from mixer.training import durations


@dataclasses.dataclass(frozen=True)
class Work:
    """The work of one training.

    Attributes:
      steps: number of steps.
      batch_size: images per step.
      evaluated: images that go through the model in all evaluations.
      unknown: evaluators with an unknown number of images; not counted.
      passes: how many times a training step goes forward and back.
    """

    steps: int
    batch_size: int
    evaluated: int
    unknown: tuple[str, ...]
    passes: int = 1

    def bill(self, step_seconds: float, devices: int, price: float) -> "Bill":
        """The bill of this work if a step takes `step_seconds`.

        An evaluated image takes a third of the time of a trained one (a sixth if a step goes
        forward and back twice): the forward pass.

        Args:
          price: price of a device-hour; 0 if unknown.
        """
        training = self.steps * step_seconds
        evaluating = self.evaluated * step_seconds / self.batch_size / (3 * self.passes)
        hours = (training + evaluating) / 3600
        return Bill(
            hours=hours,
            device_days=hours / 24 * devices,
            evaluating=evaluating / (training + evaluating),
            cost=hours * devices * price if price else None,
        )


@dataclasses.dataclass(frozen=True)
class Bill:
    """The cost of one training, with its evaluations.

    Attributes:
      evaluating: the share of the time that evaluations take.
      cost: in the currency of the price; None without a price.
    """

    hours: float
    device_days: float
    evaluating: float
    cost: float | None


def work_of(config: ConfigDict, *, published: bool = False) -> Work | None:
    """The work of the config's training; None if its number of steps is unknown.

    Args:
      published: counts the paper's datasets as they are published, even if a smaller one of the
        same name is prepared here.

    Raises:
      BadInput: invalid durations or splits.
    """
    examples = known_images(config.dataset, config.input.split) if published else None
    if examples is None:
        try:
            _, examples = training_source(config)
        except errors.Missing:
            examples = known_images(config.dataset, config.input.split)
    if examples is None and "epoch" in config.total:
        return None
    batch_size, evaluated, unknown = config.batch_size, 0, []
    total = durations.to_steps(config.total, batch_size, examples or 1, "total")
    for name in sorted(config.evaluators):
        sizes = [_images(config, *split, published) for split in splits_of(config, name)]
        every, key = config.evaluators[name].every, f"evaluators.{name}.every"
        if None in sizes or (examples is None and "epoch" in every):
            unknown.append(name)
            continue
        steps = durations.to_steps(every, batch_size, examples or 1, key) or total
        evaluated += math.ceil(total / steps) * sum(sizes)
    return Work(total, batch_size, evaluated, tuple(unknown), passes(config))


def _images(config: ConfigDict, dataset: str, split: str, published: bool) -> int | None:
    if published and dataset in rows.SPLITS:
        return known_images(dataset, split)
    try:
        return len(open_data(config, dataset, split))
    except errors.Missing:
        return known_images(dataset, split)
    except errors.BadInput:  # smaller data than the recipe's: a plan needs none at all
        return None


def known_images(dataset: str, split: str) -> int | None:
    """The size of a split of the paper's large datasets, prepared here or not; None for others."""
    if dataset not in rows.SPLITS:
        return None
    sizes = rows.SPLITS[dataset]
    ranges = splits.absolute_ranges(dataset, split, sizes)
    return sum(len(range(sizes[name])[where]) for name, where in ranges)
