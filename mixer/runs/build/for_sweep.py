"""From the config to the trainings of a sweep, and to the sweeps of VTAB-1k."""

import dataclasses
import math
from collections.abc import Sequence

from ml_collections import ConfigDict

from mixer import errors
from mixer.data import vtab as vtab_tasks
from mixer.runs.build.for_training import training
from mixer.runs.build.parts import at_least, keep_evaluators, within


@dataclasses.dataclass(frozen=True)
class Trial:
    """One training of a sweep; `name` is its folder's."""

    name: str
    rate: float
    config: ConfigDict


@dataclasses.dataclass(frozen=True)
class Sweep:
    """A learning rate's choice, and the trainings with it.

    Attributes:
      choosing: a trial for each rate, the rates ascending; they measure `dev/top1`.
      final: by rate, a trial for each seed; they measure `test/top1`.
      machine, machines: of a list of trials, those at machine, machine + machines, ... are ours.
    """

    choosing: list[Trial]
    final: dict[float, list[Trial]]
    machine: int
    machines: int


def sweep(config: ConfigDict) -> Sweep:
    """Builds a sweep.

    Raises:
      BadInput: whatever in the config cannot be done.
    """
    rates, seeds = _checked(config)
    for name in ("dev", "test"):
        if name not in config.evaluators:
            raise errors.BadInput(
                f"config.run={config.run} needs config.evaluators.{name}: take configs/sweep.py"
            )
    alone = not config.sweep.retrain
    found = Sweep(
        choosing=[_trial(config, rate, config.seed, held_out=True, others=alone) for rate in rates],
        final={
            rate: [_trial(config, rate, seed, held_out=alone, others=True) for seed in seeds]
            for rate in rates
        },
        machine=config.sweep.machine,
        machines=config.sweep.machines,
    )
    # What would fail after all the choosing fails now.
    for name, trial in (("dev", found.choosing[0]), ("test", found.final[rates[0]][0])):
        evaluations = training(trial.config).evaluations
        if not any(e.name == name and "top1" in e.higher_is_better for e in evaluations):
            raise errors.BadInput(f"config.evaluators.{name} does not measure top1")
    return found


def vtab(config: ConfigDict) -> dict[str, ConfigDict]:
    """By task, the config of its sweep.

    Raises:
      BadInput: an unknown task, or what else cannot be done.
    """
    rates, _ = _checked(config)
    if config.dataset.startswith("vtab:"):
        _check_tasks_own(config)
    found = {}
    for number, name in enumerate(tuple(config.vtab.tasks) or vtab_tasks.TASKS):
        task = vtab_tasks.task(name)
        size = config.vtab.resolution or task.resolution(with_96=config.vtab.with_96)
        of_task = config.copy_and_resolve_references()
        of_task.run = "sweep"
        if config.dataset.startswith("vtab:"):  # else it is `smoke`, on digits
            of_task.dataset = f"vtab:{name}"
            of_task.image_size = (size, size)
            of_task.input.transform = task.train_transform(size)
        # Every machine gets its share of all tasks' trials, also where a task has fewer than those.
        shifted = config.sweep.machine + number * len(rates)
        of_task.sweep.machine = shifted % config.sweep.machines
        found[name] = of_task
    return found


def _check_tasks_own(config: ConfigDict) -> None:
    """Refuses what each task would replace by its own, unless it is as the recipe has made it."""
    task = vtab_tasks.task(config.dataset.removeprefix("vtab:"))
    sizes = {config.vtab.resolution or task.resolution(), task.resolution()}
    for key, value, made in (
        ("image_size", tuple(config.image_size), [(size, size) for size in sizes]),
        ("input.transform", config.input.transform, [task.train_transform(s) for s in sizes]),
    ):
        if value not in made:
            raise errors.BadInput(
                f"config.{key}={value!r}: with config.run=vtab it is each task's own. The size of "
                f"all is --config.vtab.resolution; else run a task alone, configs/vtab.py:TASK"
            )


def _checked(config: ConfigDict) -> tuple[list[float], Sequence[int]]:
    """Rates, ascending, and seeds."""
    wanted = config.sweep
    if config.best:
        raise errors.BadInput(
            f"config.best={config.best!r}: a sweep takes each training's last step; leave it empty"
        )
    rates, seeds = tuple(wanted.rates), tuple(wanted.seeds)
    if not (wanted.train and wanted.dev and rates):
        raise errors.BadInput(
            f"config.run={config.run} needs config.sweep.rates, .train and .dev: take "
            f"configs/sweep.py"
        )
    for key, values, kind in (("rates", rates, int | float), ("seeds", seeds, int)):
        numbers = all(isinstance(value, kind) for value in values)
        if not values or not numbers or len(set(values)) < len(values):
            raise errors.BadInput(
                f"config.sweep.{key}={values}: expected one or more numbers, each once"
            )
    for rate in rates:
        within(0, math.inf, **{"sweep.rates": rate})
    for seed in seeds:
        within(0, 2**32, **{"sweep.seeds": seed})
    at_least(1, **{"sweep.machines": wanted.machines})
    within(0, wanted.machines, **{"sweep.machine": wanted.machine})
    return sorted(map(float, rates)), seeds


def _trial(config: ConfigDict, rate: float, seed: int, *, held_out: bool, others: bool) -> Trial:
    """A training with or without `dev`; `others` than `dev` are measured too."""
    own = config.copy_and_resolve_references()
    own.run, own.seed, own.schedule.base = "train", seed, rate
    if held_out:
        own.input.split = config.sweep.train
    if not others:
        keep_evaluators(own, ("dev",))
    own.evaluators.dev.split = config.sweep.dev if held_out else ""
    part = "without_dev" if held_out else "whole"
    return Trial(f"{part}_rate{rate}_seed{seed}", rate, own)
