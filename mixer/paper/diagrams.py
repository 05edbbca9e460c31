"""Draws what evaluations and trainings measured, in the style of the paper's figures."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mixer.paper.style import styled

_MOST_NAMED = 40  # classes whose names fit beside the confusion matrix
_NAME = 24  # characters of a name
_FEW_POINTS = 30  # of a curve, each of which gets a marker
# By panel of the curves: how the names of its metrics end.
_PANELS = {
    "loss": ("/loss", "/nll", "/mse"),
    "accuracy": ("/accuracy", "/top1", "shot"),
    "R²": ("/r2",),
    "learning rate": ("/learning_rate",),
}


@styled
def confusion(pairs: np.ndarray, times: np.ndarray, names: Sequence[str], title: str) -> Figure:
    """The confusion matrix, each row (label) divided by its number of images.

    Args:
      pairs: int [P, 2], (label, predicted) of each pair that occurs, below K.
      times: int [P], how often.
      names: of the K classes.
    """
    matrix = np.zeros((len(names), len(names)))
    matrix[pairs[:, 0], pairs[:, 1]] = times
    matrix /= np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(5.5, 5), layout="constrained", dpi=200)
    axes = figure.add_subplot()
    rare = PowerNorm(0.5, vmin=0, vmax=1)  # shows rare mistakes, too
    image = axes.imshow(matrix, cmap="Blues", norm=rare, interpolation="nearest")
    axes.grid(False)
    axes.set(xlabel="predicted", ylabel="label", title=title)
    if len(names) <= _MOST_NAMED:
        shown = [name[:_NAME] for name in names]
        axes.set_xticks(range(len(names)), shown, rotation=90)
        axes.set_yticks(range(len(names)), shown)
    else:
        axes.set(xticks=[], yticks=[], xlabel=f"predicted ({len(names):,} classes in label order)")
    figure.colorbar(image, label="share of the label's images", shrink=0.8)
    return figure


@styled
def reliability(count: np.ndarray, confidence: np.ndarray, accuracy: np.ndarray) -> Figure:
    """The reliability diagram: accuracy against confidence, and how many images have it.

    Args:
      count, confidence, accuracy: of each bin of confidence; NaN where it has no images.
    """
    bins = len(count)
    left, width = np.arange(bins) / bins, 1 / bins
    error = np.nansum(count * np.abs(accuracy - confidence)) / count.sum()
    figure = Figure(figsize=(3.4, 4), layout="constrained", dpi=200)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.bar(left, np.nan_to_num(accuracy), width, align="edge", edgecolor="white", color="C1")
    upper.plot([0, 1], [0, 1], "k--", linewidth=0.8)
    upper.plot(confidence, accuracy, "o", color="C0", clip_on=False)
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    upper.set_title(f"expected calibration error {error:.4f}")
    lower.bar(left, count / count.sum(), width, align="edge", edgecolor="white", color="0.6")
    lower.set(xlabel="confidence (probability of the best guess)", ylabel="share of images")
    return figure


@styled
def predicted(
    target: np.ndarray, outputs: np.ndarray, names: Sequence[str], r2: Sequence[float]
) -> Figure:
    """What a regression predicted against the truth: a panel for each output.

    Args:
      target, outputs: [N, K].
      names: of the K outputs.
      r2: of each output.
    """
    columns = math.ceil(math.sqrt(len(names)))
    rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(3.2 * columns, 3.2 * rows), layout="constrained", dpi=200)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for k, (axes, name) in enumerate(zip(panels, names, strict=False)):
        ends = [np.min([target[:, k], outputs[:, k]]), np.max([target[:, k], outputs[:, k]])]
        axes.plot(ends, ends, "k--", linewidth=0.8)
        axes.plot(target[:, k], outputs[:, k], ".", markersize=3, alpha=0.5, color="C1")
        axes.set(xlabel="true", ylabel="predicted", title=f"{name[:_NAME]}, R² {r2[k]:.3f}")
    for axes in panels[len(names) :]:
        axes.remove()
    return figure


@styled
def curves(log: Sequence[Mapping[str, float]]) -> Figure:
    """A training's loss, accuracy and learning rate against steps.

    Args:
      log: the lines of metrics.jsonl.
    """
    panels = {panel: _series(log, ends) for panel, ends in _PANELS.items()}
    panels = {panel: found for panel, found in panels.items() if found}
    figure = Figure(figsize=(3.2 * len(panels), 2.6), layout="constrained")
    for axes, (panel, found) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        for name, points in found.items():
            few = "o-" if len(points) <= _FEW_POINTS else "-"
            axes.plot(*zip(*points, strict=True), few, markersize=3, label=name)
        axes.set(xlabel="step", title=panel)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        if len(found) > 1:
            axes.legend()
    return figure


def _series(
    log: Sequence[Mapping[str, float]], ends: tuple[str, ...]
) -> dict[str, list[tuple[float, float]]]:
    """{metric: its points (step, value)} of the metrics whose names end so."""
    found: dict[str, list[tuple[float, float]]] = {}
    for line in log:
        for name, value in line.items():
            if name.endswith(ends):
                found.setdefault(name, []).append((line["step"], value))
    return found
