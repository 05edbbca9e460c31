"""Which run of the paper's experiments a results.json is of, and whether it was done as there."""

import dataclasses
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mixer.paper.rows import Row, Run

# Keys that leave a number what it is, or of which results.json itself says what was taken.
_FREE = (
    "runtime.",
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
      path: of its workdir.
      results: its results.json.
      config: its config.json, "a.b": value: the keys that it has used.
    """

    path: str
    results: Mapping[str, Any]
    config: Mapping[str, Any]


def is_of(result: Result, row: Row, run: Run, recipe: Mapping[str, Any]) -> bool:
    """Whether it is this run by what it is of: model, data, resolution, pretraining.

    Args:
      recipe: the run's config, "a.b": value.
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
    """Of a published file it is not known how many epochs it was trained for."""
    if upstream is None or upstream["dataset"] != row.pretrained_on:
        return False
    return upstream["epochs"] is None or _close(upstream["epochs"], row.epochs)


def _close(epochs: float | None, wanted: float) -> bool:
    """To 2 %: the paper rounds the epochs of a part of the data."""
    return epochs is not None and abs(epochs - wanted) < 0.02 * wanted


def differences(result: Result, recipe: Mapping[str, Any]) -> list[str]:
    """What the run did otherwise than its recipe ("a.b": value as in JSON), a line a key."""
    return [
        f"{key}={value!r}, the recipe's is {recipe[key]!r}"
        for key, value in result.config.items()
        if key in recipe and not is_free(key) and value != recipe[key]
    ]


def is_free(key: str) -> bool:
    """Whether it may differ between runs of one experiment."""
    return key.startswith(_FREE)


def merged(results: Sequence[Result]) -> dict[str, Any]:
    """The same run with several seeds as one: means, and as <metric>_std their deviation."""
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
    """Pairs that would count one experiment twice."""
    for i, one in enumerate(results):
        for other in results[i + 1 :]:
            if one.results["seed"] == other.results["seed"]:
                yield one, other
