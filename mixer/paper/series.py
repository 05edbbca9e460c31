"""The curves of figures 2 (right) and 4 and of appendix A, from results of training runs.

The runs of a curve differ only in one config value and in their seeds.
"""

import dataclasses
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mixer import calls, errors
from mixer.paper import matching
from mixer.paper.matching import Result

# {transform that moves pixels: case of figure 4}.
CASES = {"": "original", "permute_patches": "patches", "permute_pixels": "pixels"}
# The config keys that all runs of a figure share.
_SHARED = ("dataset", "image_size", "input.fast_decode")
# The config keys in which the variants of appendix A differ.
_ABLATED = ("model.name", "model.token_mixing", "model.groups", "model.stages")
# Metrics to compare where there is no few-shot accuracy. ImageNet's recipe has no test images.
_TOP1 = {"test/top1": "Top-1 on test images", "val/top1": "Top-1 on validation images"}
Log = Sequence[Mapping[str, float]]  # the lines of a metrics.jsonl


class Absent(errors.BadInput):
    """No results from which to draw a figure."""


@dataclasses.dataclass(frozen=True)
class Curve:
    """A curve averaged over seeds.

    Attributes:
      x: float [N], increasing.
      mean: float [N], in percent.
      std: float [N], sample standard deviation over seeds; NaN with one seed.
    """

    x: np.ndarray
    mean: np.ndarray
    std: np.ndarray


@dataclasses.dataclass(frozen=True)
class _Training:
    """A result, the value of the config key that varies, and its other keys without the seed."""

    result: Result
    value: Any
    others: Mapping[str, Any]

    @property
    def model(self) -> str:
        return self.result.results["model"]


def by_share(results: Iterable[Result]) -> tuple[dict[str, Curve], str]:
    """Figure 2 (right): final accuracy against `input.fraction`, for each model.

    A few-shot run that starts from a training adds its metrics to those of the training. It names
    the path of the training, which must equal `Result.path`.

    Returns:
      {model: curve}, and the name of the accuracy.

    Raises:
      Absent: no model was trained on two or more parts of the data.
      BadInput: runs that cannot be compared.
    """
    results = list(results)
    few_shot = _few_shot(results)
    trainings = []
    for result in _trainings(results):
        if own := few_shot.get(result.path):
            metrics = result.results["metrics"] | own
            result = dataclasses.replace(result, results=result.results | {"metrics": metrics})
        # A run on all of the data does not read fraction_seed.
        others = {"input.fraction_seed": 0} | _others(result)
        trainings.append(_Training(result, others.pop("input.fraction", 1.0), others))
    groups = _groups(trainings, "figure2_right needs trainings of one model on two parts of a set")
    metric, measure = _measure([t for group in groups.values() for t in group])
    lines = {}
    for model, group in groups.items():
        shares = sorted({t.value for t in group})
        numbers = [
            [t.result.results["metrics"][metric] for t in group if t.value == share]
            for share in shares
        ]
        lines[model] = _curve(shares, numbers)
    return lines, measure


def by_case(
    results: Iterable[Result], log_of: Callable[[Result], Log]
) -> tuple[dict[tuple[str, str], Curve], dict[str, str], tuple[int, int], str]:
    """Figure 4: accuracy against steps, for each model and case.

    Args:
      log_of: returns the lines of a run's metrics.jsonl.

    Returns:
      {(model, case): curve}; {case: transform that moves pixels, such as "permute_patches(16)"} of
      the first model with that case; the images' (height, width); the name of the accuracy.

    Raises:
      Absent: no model was trained on two or more cases.
      BadInput: runs that cannot be compared, or that evaluate with another permutation than they
        train with.
    """
    trainings = []
    for result in _trainings(results):
        others = {k: _split(v)[0] if _is_transform(k) else v for k, v in _others(result).items()}
        trainings.append(_Training(result, _split(result.config["input.transform"])[1], others))
    groups = _groups(trainings, "figure4 needs trainings of one model on two cases, moved or not")
    everything = [t for group in groups.values() for t in group]
    metric, measure = _measure(everything)
    curves, moves = {}, {}
    for model, group in groups.items():
        for t in group:
            _check_measured(t, metric)
        for move in sorted({t.value for t in group}, key=lambda v: list(CASES).index(_name(v))):
            case = CASES[_name(move)]
            if (model, case) in curves:
                raise errors.BadInput(f"{model}: several kinds of {_name(move)}: give one of them")
            moves.setdefault(case, move)
            logs = [_numbers(log_of(t.result), metric) for t in group if t.value == move]
            steps = sorted(set.intersection(*map(set, logs)))
            curves[model, case] = _curve(steps, [[log[step] for log in logs] for step in steps])
    height, width = everything[0].others["image_size"]
    return curves, moves, (height, width), measure


def by_model(results: Iterable[Result]) -> tuple[dict[str, tuple[float, float]], str]:
    """Appendix A: the accuracy of each model that was trained with configs/ablations.py.

    Returns:
      {model: (mean, standard deviation over seeds)} in percent, the plain Mixer first, with a
      deviation of NaN for one seed; and the name of the accuracy. Both are empty without such runs.

    Raises:
      BadInput: the runs differ in more than token mixing, or there is no plain Mixer.
    """
    trainings = []
    for result in _trainings(results):
        if result.results["protocol"].partition(":")[0] == "ablations":
            others = {k: v for k, v in _others(result).items() if k not in _ABLATED}
            others = {
                "model.depth_ramp": "mlp",
                "model.depth_rescale": True,
            } | others  # a variant's
            trainings.append(_Training(result, result.results["model"], others))
    if not trainings:
        return {}, ""
    first, *rest = trainings
    for other in rest:
        if other.others != first.others:
            _refuse(first, other, "appendix A compares models that differ only in token mixing")
    _check_seeds(trainings)
    models = sorted({t.model for t in trainings}, key=lambda m: (not m.startswith("Mixer-"), m))
    if not models[0].startswith("Mixer-"):
        raise errors.BadInput(
            f"appendix A compares {', '.join(models)} with the Mixer of the same size, which is "
            f"not in config.tables.workdirs: train it with configs/ablations.py too"
        )
    metric, measure = _measure(trainings)
    found = {}
    for model in models:
        seeds = [t.result.results["metrics"][metric] for t in trainings if t.model == model]
        curve = _curve([0], [seeds])
        found[model] = float(curve.mean[0]), float(curve.std[0])
    return found, measure


def _few_shot(results: Iterable[Result]) -> dict[str, dict[str, float]]:
    """{path of a training: the metrics of the few-shot and k-NN runs that start from it}."""
    found, measured_by = {}, {}
    for result in results:
        upstream = result.results["upstream"]
        if result.results["run"] != "fewshot" or upstream is None:  # None: untrained
            continue
        path = upstream["path"]
        for metric, value in result.results["metrics"].items():
            other = measured_by.setdefault((path, metric), result)
            if other is not result:
                raise errors.BadInput(
                    f"{other.path} and {result.path} both measure {metric} of {path}: give one"
                )
            found.setdefault(path, {})[metric] = value
    return found


def _trainings(results: Iterable[Result]) -> list[Result]:
    return [r for r in results if r.results["run"] == "train" and "input.transform" in r.config]


def _others(result: Result) -> dict[str, Any]:
    return {
        key: value
        for key, value in result.config.items()
        if key == "init_from" or not matching.may_differ(key)
    }


def _is_transform(key: str) -> bool:
    return key == "input.transform" or bool(re.fullmatch(r"evaluators\..+\.transform", key))


def _split(transform: str) -> tuple[str, str]:
    """(the chain of transforms without the one that moves pixels, that one)."""
    parts = calls.split(transform)
    moving = [part for part in parts if part.partition("(")[0] in CASES]
    return "|".join(part for part in parts if part not in moving), "|".join(moving)


def _name(move: str) -> str:
    return move.partition("(")[0]


def _check_measured(training: _Training, metric: str) -> None:
    evaluator = metric.partition("/")[0]
    measured = _split(training.result.config.get(f"evaluators.{evaluator}.transform", ""))[1]
    if measured != training.value:
        raise errors.BadInput(
            f"{training.result.path} was trained with {training.value or 'no permutation'} and "
            f"config.evaluators.{evaluator} measures with {measured or 'none'}: in figure 4 both "
            f"are the same"
        )


def _groups(trainings: Sequence[_Training], wanted: str) -> dict[str, list[_Training]]:
    """{model: trainings that differ only in their value and seed}, with at least two values."""
    found = {}
    for training in trainings:
        others = json.dumps(training.others, sort_keys=True)
        found.setdefault(training.model, {}).setdefault(others, []).append(training)
    kept = {}
    for model, groups in found.items():
        varied = [group for group in groups.values() if len({t.value for t in group}) > 1]
        if len(varied) > 1:
            _refuse(varied[0][0], varied[1][0], f"{model} cannot be one curve")
        if varied:
            _check_seeds(varied[0])
            kept[model] = varied[0]
    if not kept:
        raise Absent(f"{wanted}, otherwise equal: none in config.tables.workdirs")
    first, *rest = [group[0] for group in kept.values()]
    for other in rest:
        for key in _SHARED:
            if first.others.get(key) != other.others.get(key):
                _refuse(first, other, "they cannot be in one figure", key)
    return kept


def _refuse(one: _Training, other: _Training, why: str, key: str = "") -> None:
    keys = sorted(set(one.others) | set(other.others))
    key = key or next(k for k in keys if one.others.get(k) != other.others.get(k))
    raise errors.BadInput(
        f"{why}: {one.result.path} has {key}={one.others.get(key)!r}, {other.result.path} has "
        f"{key}={other.others.get(key)!r}. Give one of them in config.tables.workdirs"
    )


def _check_seeds(group: Sequence[_Training]) -> None:
    for value in {t.value for t in group}:
        for one, other in matching.same_seed([t.result for t in group if t.value == value]):
            raise errors.BadInput(
                f"{one.path} and {other.path} are the same training with seed "
                f"{one.results['seed']}: give one of them"
            )


def _measure(trainings: Sequence[_Training]) -> tuple[str, str]:
    """The metric that all trainings have, and its name on an axis."""
    metrics = [t.result.results["metrics"] for t in trainings]
    common = [name for name in metrics[0] if all(m.get(name) is not None for m in metrics)]
    for name in common:
        if shots := re.fullmatch(r"fewshot/(?!l2/)(.+)/5shot", name):
            return name, f"Linear 5-shot top-1 on {shots[1]}"
    for name, words in _TOP1.items():
        if name in common:
            return name, words
    raise errors.BadInput(
        f"the runs of a figure are compared by fewshot/*/5shot, {' or '.join(_TOP1)}, which they "
        f"do not all have. All have: {errors.shown(sorted(common)) or 'nothing'}"
    )


def _numbers(log: Log, metric: str) -> dict[int, float]:
    return {line["step"]: line[metric] for line in log if metric in line}


def _curve(x: Sequence[float], numbers: Sequence[Sequence[float]]) -> Curve:
    """Averages `numbers`, which hold for each x the fractions of all seeds."""
    percent = [100 * np.asarray(values, float) for values in numbers]
    deviations = [np.std(values, ddof=1) if len(values) > 1 else np.nan for values in percent]
    return Curve(np.asarray(x), np.asarray([v.mean() for v in percent]), np.asarray(deviations))
