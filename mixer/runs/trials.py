"""Trainings of which a sweep makes one result: each a run of its own in WORKDIR/trials."""

import dataclasses
import statistics
from collections.abc import Sequence
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from mixer import errors
from mixer.hosts import exchange
from mixer.runs import train, workdir
from mixer.signals import StopSignal
from mixer.training.nonfinite import NonFinite

_DIVERGED = "diverged.json"


@dataclasses.dataclass(frozen=True)
class Trial:
    """One training of a sweep, in the folder `name`, with these `values` of the varied keys."""

    name: str
    values: dict[str, Any]
    config: ConfigDict


@dataclasses.dataclass(frozen=True)
class Share:
    """What this machine runs of a list of trials: number machine, machine + machines, ..."""

    machine: int
    machines: int


def run_all(
    trials: Sequence[Trial], share: Share, path: epath.Path, protocol: str, stop: StopSignal
) -> list[dict | None] | None:
    """Runs this machine's trials; the results.json of each trial, None for one that diverged.

    None instead of the list if a signal stopped it, or if trials of other machines are missing.
    """
    for trial in trials[share.machine :: share.machines]:
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
            print(f"{trial.name} diverged: {error}", flush=True)
        if not _ended(place):
            return None
    places = [path / "trials" / trial.name for trial in trials]
    if missing := [place.name for place in places if not _ended(place)]:
        print(f"other machines have yet to complete {', '.join(missing)}. Then repeat this command")
        return None
    return [read(place / workdir.RESULTS) for place in places]


def none_diverged(found: Sequence[dict | None], trials: Sequence[Trial], path: epath.Path) -> None:
    """Checks the results of `trials`.

    Raises:
      Failure: the loss of one became NaN or infinite.
    """
    if None in found:
        bad = trials[found.index(None)].name
        raise errors.Failure(f"the loss of {bad} became NaN or infinite, see {path / 'trials'}")


def all_results(path: epath.Path) -> list[dict]:
    """The results.json of all trials so far, for their cost."""
    files = (path / "trials").glob("*/results.json")
    return exchange.from_first(lambda: [d for d in map(workdir.read_json, files) if d])


def averaged(found: Sequence[dict]) -> dict[str, float | None]:
    """The mean of each metric and, as <metric>_std, its sample standard deviation; "seeds"."""
    metrics = [each["metrics"] for each in found]
    means = {}
    for name in sorted(set.intersection(*map(set, metrics))):  # optional ones may be missing
        values = [each[name] for each in metrics]
        means[name] = statistics.fmean(values)
        means[f"{name}_std"] = statistics.stdev(values) if len(values) > 1 else None
    return means | {"seeds": len(found)}


def read(file: epath.Path) -> dict | None:
    """`workdir.read_json`, read by process 0 for all."""
    return exchange.from_first(lambda: workdir.read_json(file))


def _ended(place: epath.Path) -> bool:
    return any(read(file) is not None for file in (place / workdir.RESULTS, place / _DIVERGED))
