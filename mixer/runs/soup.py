"""Averages the parameters of several runs in `config.init_from`: see `mixer.weights.soup`."""

import dataclasses
import glob
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from mixer import errors, storage
from mixer.models.fields import OF_TRAINING
from mixer.runs import workdir
from mixer.runs.evaluations import build_evaluations, keep_evaluators, splits_of
from mixer.runs.trained import Trained, load_trained
from mixer.weights import located, soup

UNIFORM, GREEDY = "uniform", "greedy"
# What all ingredients share; their datasets may differ.
_SAME = ("model", "image_size", "transform", "classes", "multi_label", "regression", "decoding")


@dataclasses.dataclass(frozen=True)
class Soup:
    """An average: its parameters, model and card as those of `trained`, and the measured scores."""

    trained: Trained
    metrics: dict[str, float]


def of_runs(config: ConfigDict) -> Soup:
    """Loads the runs in `config.init_from` and averages them by `config.soup`.

    Raises:
      BadInput: fewer than two workdirs, an unknown kind, runs of different models, classes or
        preprocessing, or a greedy soup without a metric in `config.best`.
    """
    kind = config.soup
    if kind not in (UNIFORM, GREEDY):
        raise errors.unknown("config.soup", kind, (UNIFORM, GREEDY))
    paths = _workdirs(config.init_from)
    name = _metric(config) if kind == GREEDY else ""
    runs = [load_trained(_with(config, path)) for path in paths]
    for path, run in zip(paths[1:], runs[1:], strict=True):
        _check_alike(paths[0], runs[0], path, run)
    _report_origins(paths)
    models = [jax.tree.map(np.asarray, jax.device_get(run.params)) for run in runs]
    if kind == UNIFORM:
        return Soup(_averaged(runs, paths, range(len(paths)), soup.uniform(models)), {})
    measure, higher = _measurer(config, runs[0], name)
    scores = [measure(run.params) for run in runs]
    for path, score in zip(paths, scores, strict=True):
        print(f"{path}: {name} {score:.4f}", flush=True)
    made = soup.greedy(models, scores, measure, higher_is_better=higher)
    print(f"soup of {', '.join(paths[i] for i in made.kept)}: {name} {made.score:.4f}", flush=True)
    metrics = {name: made.score, f"{name}_of_best_run": max(scores) if higher else min(scores)}
    return Soup(_averaged(runs, paths, made.kept, made.params), metrics)


def _workdirs(text: str) -> list[str]:
    """The workdirs that a comma-separated list of paths and patterns names, each once."""
    parts = filter(None, map(str.strip, text.split(",")))
    by_place = {_place(path): path for part in parts for path in _matches(part)}
    found = list(by_place.values())
    if len(found) < 2:
        raise errors.BadInput(
            f"config.init_from={text!r} names {len(found)} workdirs: config.soup needs two or "
            f"more, as in 'runs/a,runs/b' or 'runs/seed*'"
        )
    if files := [path for path in found if not located.is_workdir(path)]:
        raise errors.BadInput(
            f"config.soup: {files[0]} is no workdir, which alone record their classes and "
            f"preprocessing"
        )
    return found


def _matches(part: str) -> list[str]:
    """A path itself, or the trainings that match a pattern; a line names the other workdirs."""
    path = os.path.expanduser(part)
    if storage.is_remote(part) or os.path.exists(path) or not glob.has_magic(part):
        return [part]
    matches = [match for match in sorted(glob.glob(path)) if located.is_workdir(match)]
    found = [match for match in matches if os.path.isdir(os.path.join(match, "checkpoints"))]
    if not found:
        raise errors.BadInput(f"config.init_from: no workdir of a training matches {part!r}")
    if others := [match for match in matches if match not in found]:
        print(f"{part}: passes over {errors.shown(others)}, without checkpoints", flush=True)
    return found


def _place(path: str) -> str:
    """What is the same for all spellings of a path."""
    if storage.is_remote(path):
        return path.rstrip("/")
    return os.path.realpath(os.path.expanduser(path))


def _with(config: ConfigDict, path: str) -> ConfigDict:
    own = config.copy_and_resolve_references()
    own.init_from = path
    return own


def _check_alike(first_path: str, first: Trained, path: str, other: Trained) -> None:
    for field in _SAME:
        one, two = getattr(first.card, field), getattr(other.card, field)
        if field == "model":  # fields of training mean the same with any weights
            one, two = ({k: v for k, v in m.items() if k not in OF_TRAINING} for m in (one, two))
        if one == two:
            continue
        if field == "model":
            key = next(key for key in one | two if one.get(key) != two.get(key))
            field, one, two = f"model.{key}", one.get(key), two.get(key)
        raise errors.BadInput(
            f"config.soup needs one architecture, the same classes and preprocessing: {field} of "
            f"{first_path} is {one!r}, of {path} {two!r}"
        )


def _report_origins(paths: Sequence[str]) -> None:
    """Says so if the runs did not all start from the same weights."""
    configs = [workdir.read_json(workdir.open_workdir(path) / workdir.CONFIG) for path in paths]
    origins = {(config or {}).get("init_from", "") for config in configs}
    if len(origins) > 1 or origins & {"", "random"}:
        print(
            "these runs did not start from the same pretrained weights: the average of such models "
            "is seldom a good one",
            flush=True,
        )


def _metric(config: ConfigDict) -> str:
    """`config.best`, by which a greedy soup is made."""
    name = config.best
    chosen_by = name.partition("/")[0]
    used = [entry for entry in config.evaluators if splits_of(config, entry)]
    if not name or chosen_by not in used:
        raise errors.BadInput(
            f"config.best={name!r}: config.soup=greedy needs a metric of an evaluator on held-out "
            f"images, such as val/top1; those in use: {', '.join(used) or 'none'}"
        )
    return name


def _measurer(config: ConfigDict, run: Trained, name: str) -> tuple[Callable[[Any], float], bool]:
    """(parameters) -> the metric `name`; and whether higher is better."""
    own = config.copy_and_resolve_references()
    chosen_by, _, metric = name.partition("/")
    keep_evaluators(own, [chosen_by])
    (evaluation,) = build_evaluations(own, run.model, run.mesh, run.card, None)
    if metric not in evaluation.directions:
        known = [f"{chosen_by}/{each}" for each in evaluation.directions]
        raise errors.unknown("metric in config.best", name, known)
    placed = jax.tree.map(lambda x: x.sharding, run.params)

    def measure(params: Any) -> float:
        return float(evaluation.measure(jax.device_put(params, placed))[metric])

    return measure, evaluation.directions[metric]


def _averaged(
    runs: Sequence[Trained], paths: Sequence[str], kept: Sequence[int], params: Any
) -> Trained:
    """The first run with these parameters; its origin are those of the kept runs."""
    used = [runs[i] for i in kept]
    upstream = {key: _common([run.upstream[key] for run in used]) for key in used[0].upstream}
    upstream["path"] = ",".join(paths[i] for i in kept)
    step = _common([run.step for run in used])
    return dataclasses.replace(runs[0], params=params, upstream=upstream, step=step)


def _common(values: Sequence[Any]) -> Any:
    return values[0] if all(value == values[0] for value in values) else None
