"""Draws figures 2 to 4: accuracy against cost, throughput, training-set size and steps."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator
from matplotlib.transforms import Bbox

from mixer.paper.series import Curve
from mixer.paper.style import lay_out, styled

_FAMILIES = {"Mixer": "#D55E00", "ViT": "#0072B2", "BiT": "#009E73"}
_DATA = {
    "imagenet2012": ("o", "ImageNet"),
    "imagenet21k": ("s", "ImageNet-21k"),
    "jft": ("^", "JFT-300M"),
}
_CASES = {
    "original": ("-", "(a) original"),
    "patches": ("--", "(b) patches and their pixels"),
    "pixels": (":", "(c) all pixels"),
}
_MARKERS = "os^DvPX"


@dataclasses.dataclass(frozen=True)
class Point:
    """A model in figures 2 (left) and 3.

    Attributes:
      x: cost or throughput, in the unit of the axis.
      accuracy: in percent.
      label: text beside the point.
      family: "Mixer", "ViT" or "BiT".
      pretrained_on: "imagenet2012", "imagenet21k" or "jft".
      ours: "" for a point of the paper; else the kind of device on which we measured x.
    """

    x: float
    accuracy: float
    label: str
    family: str
    pretrained_on: str
    ours: str = ""


def frontier(costs: Sequence[float], values: Sequence[float]) -> list[int]:
    """The Pareto frontier: indices of the points that no other point dominates, by rising cost.

    A point dominates another one if its cost is not higher and its value not lower, and the two
    differ.
    """
    costs, values = np.asarray(costs, float), np.asarray(values, float)
    kept = [
        i
        for i, (cost, value) in enumerate(zip(costs, values, strict=True))
        if not np.any((costs <= cost) & (values >= value) & ((costs < cost) | (values > value)))
    ]
    return sorted(kept, key=lambda i: costs[i])


@styled
def accuracy_against_cost(points: Sequence[Point], x: str, *, more_is_better: bool) -> Figure:
    """Figures 2 (left) and 3: the paper's points with their Pareto frontier, and ours, filled.

    Args:
      x: title of the horizontal axis, with the unit.
      more_is_better: True if x is a throughput, False if it is a cost.
    """
    figure = Figure(figsize=(7, 4.6), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xscale="log", xlabel=x, ylabel="ImageNet top-1 after fine-tuning, %")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    paper = [point for point in points if not point.ours]
    sign = -1 if more_is_better else 1
    best = [paper[i] for i in frontier([sign * p.x for p in paper], [p.accuracy for p in paper])]
    axes.plot([p.x for p in best], [p.accuracy for p in best], "--", color="0.5", zorder=1)
    for point in points:
        colour = _FAMILIES[point.family]
        axes.plot(
            point.x,
            point.accuracy,
            _DATA[point.pretrained_on][0],
            color=colour,
            markerfacecolor=colour if point.ours else "white",
            zorder=3 if point.ours else 2,
        )
    axes.margins(x=0.06, y=0.06)
    _against_legend(axes, points, "lower left" if more_is_better else "lower right")
    lay_out(figure)  # before the labels, whose positions depend on the layout
    _label(axes, points, best)
    return figure


def _against_legend(axes: Axes, points: Sequence[Point], place: str) -> None:
    empty = {"linestyle": "", "markerfacecolor": "white"}
    entries = [
        Line2D([], [], color=colour, marker="D", label=family, **empty)
        for family, colour in _FAMILIES.items()
    ]
    entries += [
        Line2D([], [], color="0.3", marker=marker, label=f"pretrained on {name}", **empty)
        for marker, name in _DATA.values()
    ]
    entries.append(Line2D([], [], color="0.5", linestyle="--", label="frontier of the paper's"))
    for kind in dict.fromkeys(point.ours for point in points if point.ours):
        entries.append(
            Line2D([], [], color="0.3", marker="o", linestyle="", label=f"ours, on {kind}")
        )
    axes.legend(handles=entries, loc=place)


def _label(axes: Axes, points: Sequence[Point], best: Sequence[Point]) -> None:
    """Places each label near its point, if possible over nothing else but a bit of the frontier."""
    half = 0.6 * rcParams["lines.markersize"] * axes.figure.dpi / 72
    centres = axes.transData.transform([(p.x, p.accuracy) for p in points])
    taken = [Bbox([at - half, at + half]) for at in centres]
    taken.append(axes.get_legend().get_window_extent())
    line = []
    corners = axes.transData.transform([(p.x, p.accuracy) for p in best])
    for start, end in itertools.pairwise(corners):
        steps = np.linspace(start, end, 1 + int(np.hypot(*(end - start)) / 3))
        line += [Bbox([at - 1, at + 1]) for at in steps]
    for point in points:
        text = axes.annotate(
            point.label,
            (point.x, point.accuracy),
            (0, 0),
            textcoords="offset points",
            fontsize=6,
            color=_FAMILIES[point.family],
            in_layout=False,
        )
        costs = []
        for place in _PLACES:
            text.set(**place)
            box = text.get_window_extent()
            outside = not axes.bbox.containsx(box.x0) or not axes.bbox.containsx(box.x1)
            far = np.hypot(*place["position"])
            costs.append(
                100 * (box.count_overlaps(taken) + outside) + box.count_overlaps(line) + far
            )
        text.set(**_PLACES[int(np.argmin(costs))])
        taken.append(text.get_window_extent())


def _places() -> Iterator[dict[str, Any]]:
    """Positions of a label around a marker, in points."""
    for far in (4, 9, 15):
        yield {"position": (far, 0), "ha": "left", "va": "center"}
        yield {"position": (-far, 0), "ha": "right", "va": "center"}
        yield {"position": (0, far), "ha": "center", "va": "bottom"}
        yield {"position": (0, -far), "ha": "center", "va": "top"}
        for x, ha in ((far - 1, "left"), (1 - far, "right")):
            for y, va in ((far - 1, "bottom"), (1 - far, "top")):
                yield {"position": (x, y), "ha": ha, "va": va}


_PLACES = tuple(_places())


@styled
def accuracy_against_data(lines: Mapping[str, Curve], measure: str) -> Figure:
    """Figure 2 (right): accuracy against the share of the training images, (0, 1], for each model.

    Args:
      lines: {model: curve}.
      measure: title of the vertical axis.
    """
    figure = Figure(figsize=(4.6, 3.4), layout="constrained")
    axes = figure.add_subplot()
    shares = sorted({float(share) for line in lines.values() for share in line.x})
    axes.set(xscale="log", xlabel="Share of the training images", ylabel=f"{measure}, %")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(shares, [f"{100 * share:.3g} %" for share in shares])
    for i, (model, line) in enumerate(lines.items()):
        _draw(axes, line, f"C{i % 7}", marker=_MARKERS[i % 7], label=model)
    _legend_below(figure, axes.get_legend_handles_labels()[0])
    return figure


@styled
def permutation_curves(
    examples: Mapping[str, np.ndarray], curves: Mapping[tuple[str, str], Curve], measure: str
) -> Figure:
    """Figure 4: an example image of each case above the training curves.

    Args:
      examples: {case: image}, cases "original", "patches" and "pixels", images uint8 [H, W, 3].
      curves: {(model, case): curve}, percent against steps.
      measure: title of the vertical axis.
    """
    figure = Figure(figsize=(5.4, 5.6), layout="constrained")
    cells = figure.add_gridspec(2, len(examples), height_ratios=(1, 1.7))
    for i, (case, image) in enumerate(examples.items()):
        axes = figure.add_subplot(cells[0, i])
        axes.imshow(image, interpolation="none")
        axes.set_title(_CASES[case][1])
        axes.set_axis_off()
    axes = figure.add_subplot(cells[1, :])
    axes.set(xlabel="Steps", ylabel=f"{measure}, %")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    models = list(dict.fromkeys(model for model, _ in curves))
    for (model, case), line in curves.items():
        _draw(axes, line, f"C{models.index(model) % 7}", linestyle=_CASES[case][0])
    colours = [Line2D([], [], color=f"C{i % 7}", label=model) for i, model in enumerate(models)]
    styles = [
        Line2D([], [], color="0.3", linestyle=_CASES[case][0], label=_CASES[case][1])
        for case in examples
    ]
    axes.legend(handles=styles, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(styles))
    _legend_below(figure, colours)
    return figure


def _draw(axes: Axes, line: Curve, colour: str, **how) -> None:
    """Draws the mean and, if there are several seeds, a band of one standard deviation."""
    axes.plot(line.x, line.mean, color=colour, **how)
    low, high = line.mean - line.std, line.mean + line.std
    axes.fill_between(line.x, low, high, color=colour, alpha=0.2, linewidth=0)


def _legend_below(figure: Figure, models: Sequence[Line2D]) -> None:
    """A legend below the axes, row by row, with as many columns as fit."""
    longest = max(len(model.get_label()) for model in models)
    columns = min(len(models), max(1, int(15 * figure.get_figwidth() / (longest + 8))))
    nothing = Line2D([], [], linestyle="", label=" ")
    padded = [*models, *[nothing] * (-len(models) % columns)]
    # matplotlib fills column by column.
    handles = [handle for i in range(columns) for handle in padded[i::columns]]
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)
