"""Matches a results.json to the run of the paper's experiments that it comes from.

Also tells in which config keys a run differs from the paper's, and averages runs over seeds.
"""

import dataclasses
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mixer.paper.rows import Row, Run

# Keys that do not change a run's numbers, or whose values are recorded in results.json itself.
_MAY_DIFFER = (
    "runtime.",
    "writers",
    "reproduce.",
    "prepare.",
    "seed",
    "imports",
    "init_from",
    "init_step",
    "input.stage",
    "input.on_bad",
    "sweep.seeds",
    "sweep.machine",
    "throughput.",
    "vtab.tasks",
)


@dataclasses.dataclass(frozen=True)
class Result:
    """A complete run.

    Attributes:
      path: its workdir.
      results: content of its results.json.
      config: content of its config.json, {"a.b": value}: the keys that the run has read.
    """

    path: str
    results: Mapping[str, Any]
    config: Mapping[str, Any]


def matches(result: Result, row: Row, run: Run, recipe: Mapping[str, Any]) -> bool:
    """Whether `result` comes from this run, by its model, dataset, resolution and pretraining.

    Args:
      recipe: config of the run, {"a.b": value}.
    """
    found, kind = result.results, recipe["run"]
    if found["run"] != kind:
        return False
    if kind == "throughput":
        return any(metric in found["metrics"] for metric in run.fills.values())
    if found["model"] != row.model:
        return False
    if kind == "train":
        epochs = float(recipe["total"].split()[0]) / recipe["input.fraction"]
        data = found["dataset"], found["resolution"]
        wanted = recipe["dataset"], recipe["image_size"][0]
        return data == wanted and _close(found["epochs"], epochs)
    if kind == "sweep" and (found["dataset"], found["resolution"]) != (
        recipe["dataset"],
        row.image_size,
    ):
        return False
    return _starts_as(found["upstream"], row)


def _starts_as(upstream: Mapping[str, Any] | None, row: Row) -> bool:
    """Whether a run starts from the row's pretraining. Published files do not tell their epochs."""
    if upstream is None or upstream["dataset"] != row.pretrained_on:
        return False
    return upstream["epochs"] is None or _close(upstream["epochs"], row.epochs)


def _close(epochs: float | None, wanted: float) -> bool:
    """Equal to 2 %: the paper rounds the number of epochs over a part of the data."""
    return epochs is not None and abs(epochs - wanted) < 0.02 * wanted


def differences(result: Result, recipe: Mapping[str, Any]) -> list[str]:
    """The keys in which a run differs from its recipe ({"a.b": JSON value}), a line for each."""
    return [
        f"{key}={value!r}, the recipe has {recipe[key]!r}"
        for key, value in result.config.items()
        if key in recipe and not may_differ(key) and value != recipe[key]
    ]


def may_differ(key: str) -> bool:
    """Whether runs of the same experiment may differ in this config key."""
    return key.startswith(_MAY_DIFFER)


def merged(results: Sequence[Result]) -> dict[str, Any]:
    """Averages the same run over seeds: means, and sample deviations as <metric>_std."""
    if len(results) == 1:
        return dict(results[0].results)
    first = dict(results[0].results)
    metrics = {}
    for name in set.intersection(*(set(r.results["metrics"]) for r in results)):
        values = [r.results["metrics"][name] for r in results]
        if None in values or name.endswith("_std"):
            continue
        metrics[name] = statistics.fmean(values)
        metrics[f"{name}_std"] = statistics.stdev(values)
    days = [r.results["device_days"] for r in results]
    return first | {
        "metrics": metrics,
        "device_days": None if None in days else statistics.fmean(days),
    }


def same_seed(results: Sequence[Result]) -> Iterator[tuple[Result, Result]]:
    """Pairs of results with the same seed, which would count one experiment twice."""
    for i, one in enumerate(results):
        for other in results[i + 1 :]:
            if one.results["seed"] == other.results["seed"]:
                yield one, other
