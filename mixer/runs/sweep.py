"""`config.run="sweep"`: chooses the learning rate, then trains with it for several seeds."""

import dataclasses
import math
import statistics
from collections.abc import Sequence

from etils import epath
from ml_collections import ConfigDict

from mixer import errors
from mixer.hosts import exchange, stopping
from mixer.runs import train, workdir
from mixer.runs.evaluations import keep_evaluators
from mixer.runs.keys import at_least, within
from mixer.runs.results import Results
from mixer.runs.training import build_training
from mixer.signals import StopSignal
from mixer.training.progress import NonFinite

_CHOICE, _DIVERGED = "choice.json", "diverged.json"
# Of the sweep if they are the same in all its parts.
_SHARED = (
    "model",
    "dataset",
    "resolution",
    "seed",
    "step",
    "epochs",
    "batch_size",
    "params",
    "upstream",
    "precision",
    "fast_decode",
)


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


@workdir.unless_complete
def run(config: ConfigDict, path: epath.Path, protocol: str) -> None:
    """Trains until the sweep is complete, was stopped, or waits for other machines.

    Raises:
      BadInput: before anything is written.
      Failure: the loss of every rate, or of the chosen one, became NaN or infinite.
    """
    sweep = build_sweep(config)
    with stopping.stop_signal() as stop:
        carry_out(config, sweep, path, protocol, stop)


def build_sweep(config: ConfigDict) -> Sweep:
    """Builds a sweep.

    Raises:
      BadInput: whatever in the config cannot be done.
    """
    rates, seeds = checked(config)
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
        evaluations = build_training(trial.config).evaluations
        if not any(e.name == name and "top1" in e.higher_is_better for e in evaluations):
            raise errors.BadInput(f"config.evaluators.{name} does not measure top1")
    return found


def checked(config: ConfigDict) -> tuple[list[float], Sequence[int]]:
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


def carry_out(
    config: ConfigDict, sweep: Sweep, path: epath.Path, protocol: str, stop: StopSignal
) -> None:
    """`run`, checked and with signals caught; `path` has results.json if it is complete."""
    if not path.exists():  # weights that do not fit are refused before anything is written
        build_training(sweep.choosing[0].config).initial()
    workdir.begin(path, config)
    if _read(path / _CHOICE) is None:
        found = _results_of(sweep.choosing, sweep, path, protocol, stop)
        if found is None:
            return
        workdir.write_json(path / _CHOICE, _choose(sweep.choosing, found))
    choice = _read(path / _CHOICE)
    trials = sweep.final[choice["learning_rate"]]
    found = _results_of(trials, sweep, path, protocol, stop)
    if found is None:
        return
    if None in found:
        bad = trials[found.index(None)].name
        raise errors.Failure(f"the loss of {bad} became NaN or infinite, see {path / 'trials'}")
    files = (path / "trials").glob("*/results.json")
    done = exchange.from_first(lambda: [d for d in map(workdir.read_json, files) if d])
    metrics = _statistics([each["metrics"] for each in found])
    print(_table(choice, found, metrics))
    workdir.write_results(
        path,
        Results(
            run="sweep",
            protocol=protocol,
            metrics=metrics | {"seeds": len(found), "learning_rate": choice["learning_rate"]},
            **summary(found),
            **cost(done),
        ),
    )
    print(f"done: {path / workdir.RESULTS}", flush=True)


def _results_of(
    trials: Sequence[Trial],
    sweep: Sweep,
    path: epath.Path,
    protocol: str,
    stop: StopSignal,
) -> list[dict | None] | None:
    """The content of each trial's results.json, None for one that diverged.

    None at all if there was a stop, or if others have yet to bring theirs.
    """
    for trial in trials[sweep.machine :: sweep.machines]:
        if stop.poll():
            return None
        place = path / "trials" / trial.name
        if _ended(place):
            continue
        print(f"trial {trial.name}: {place}", flush=True)
        try:
            train.train(trial.config, str(place), protocol, stop, {})
        except NonFinite as error:
            workdir.write_json(place / _DIVERGED, {"error": str(error)})
            print(f"{trial.name} is out: {error}", flush=True)
        if not _ended(place):
            return None
    places = [path / "trials" / trial.name for trial in trials]
    if missing := [place.name for place in places if not _ended(place)]:
        print(f"not complete elsewhere: {', '.join(missing)}. Then the same command goes on")
        return None
    return [_read(place / workdir.RESULTS) for place in places]


def _ended(place: epath.Path) -> bool:
    return any(_read(file) is not None for file in (place / workdir.RESULTS, place / _DIVERGED))


def _read(file: epath.Path) -> dict | None:
    """See `workdir.read_json`; process 0 has written it."""
    return exchange.from_first(lambda: workdir.read_json(file))


def _choose(trials: Sequence[Trial], found: list[dict | None]) -> dict:
    accuracies = [each and each["metrics"]["dev/top1"] for each in found]
    known = [accuracy for accuracy in accuracies if accuracy is not None]
    if not known:
        raise errors.Failure("the loss became NaN or infinite with every rate: try smaller ones")
    best = trials[accuracies.index(max(known))]  # the smallest of the best rates
    rates = [trial.rate for trial in trials]
    return {
        "learning_rate": best.rate,
        "dev/top1": [list(pair) for pair in zip(rates, accuracies, strict=True)],
    }


def _statistics(metrics: Sequence[dict[str, float]]) -> dict[str, float | None]:
    """Of each metric the mean and, as <metric>_std, the sample standard deviation."""
    found = {}
    for name in sorted(set.intersection(*map(set, metrics))):  # an optional one may lack somewhere
        values = [each[name] for each in metrics]
        found[name] = statistics.fmean(values)
        found[f"{name}_std"] = statistics.stdev(values) if len(values) > 1 else None
    return found


def summary(parts: Sequence[dict]) -> dict:
    """What the results.json of several runs agree on; where they do not, None."""
    return {
        key: parts[0][key] if all(part[key] == parts[0][key] for part in parts) else None
        for key in _SHARED
    }


def cost(parts: Sequence[dict]) -> dict:
    """Of several runs: time in all, and the rate in the mean over it."""
    seconds = sum(part["seconds"] for part in parts)
    rates = sum(part["seconds"] * part["images_per_second_per_device"] for part in parts)
    return {
        "seconds": seconds,
        "device_days": sum(part["device_days"] for part in parts),
        "images_per_second_per_device": rates / seconds,
        "skipped_examples": sum(part["skipped_examples"] for part in parts),
    }


def _table(choice: dict, found: list[dict], metrics: dict[str, float | None]) -> str:
    lines = ["learning rate   dev/top1"]
    for rate, accuracy in choice["dev/top1"]:
        shown = "diverged" if accuracy is None else f"{accuracy:.4f}"
        lines.append(f"{rate:<15g} {shown}{' *' * (rate == choice['learning_rate'])}")
    lines.append("seed            test/top1")
    for each in found:
        lines.append(f"{each['seed']:<15} {each['metrics']['test/top1']:.4f}")
    deviation = metrics["test/top1_std"]
    spread = "" if deviation is None else f" ± {deviation:.4f}"
    return "\n".join([*lines, f"mean            {metrics['test/top1']:.4f}{spread}"])
