"""`config.run="figures"`: draws the paper's figures 2 to 7 from its numbers, runs and weights."""

import dataclasses
import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath
from matplotlib.figure import Figure
from ml_collections import ConfigDict
from sklearn.datasets import load_sample_image

from mixer import errors, storage
from mixer.data import transforms
from mixer.hosts import peers
from mixer.paper import charts, matching, published, rows, series, style, tables, units
from mixer.paper.matching import Result
from mixer.paper.rows import Row
from mixer.paper.series import Absent
from mixer.paper.tables import Cell
from mixer.runs import collecting, workdir
from mixer.runs.model import resolution
from mixer.runs.results import Results
from mixer.runs.trained import Trained, load_trained

_FROM_RUNS = ("figure2_left", "figure2_right", "figure3", "figure4")
_FROM_WEIGHTS = ("figure5", "figure6", "figure7")


@dataclasses.dataclass(frozen=True)
class _Figure:
    """A figure for which all data were found.

    Attributes:
      draw: draws the picture.
      counts: how many points, curves or units it shows.
      numbers: rows of the CSV file, one for each point; empty for pictures of weights.
    """

    draw: Callable[[], Figure]
    counts: dict[str, int]
    numbers: Sequence[Mapping[str, Any]] = ()


@workdir.unless_complete
def run(config: ConfigDict, path: epath.Path, protocol: str) -> None:
    """Writes WORKDIR/<figure>.png and .svg for each of `config.figures.which`, and results.json.

    The numbers behind curves and points are written to <figure>.csv.

    Raises:
      BadInput: before anything is written.
    """
    figures, trained = _figures(config)
    workdir.begin(path, config)
    metrics = {}
    for name, figure in figures.items():
        metrics |= {f"{name}/{what}": count for what, count in figure.counts.items()}
        if peers.index() == 0:
            _write(path / name, figure)
        said = ", ".join(f"{count:,} {what}" for what, count in figure.counts.items())
        endings = ".png, .svg, .csv" if figure.numbers else ".png, .svg"
        print(f"{path / name}{endings}: {said}", flush=True)
    about = {"device_kind": None, "devices": None}
    if trained is not None:
        about = {
            "model": trained.card.model["name"],
            "resolution": resolution(trained.card.image_size),
            "step": trained.step,
            "upstream": trained.upstream,
        }
    workdir.write_results(path, Results(run="figures", protocol=protocol, metrics=metrics, **about))


def _figures(config: ConfigDict) -> tuple[dict[str, _Figure], Trained | None]:
    """The requested figures, else all for which there are data; the trained model if loaded."""
    asked = tuple(config.figures.which)
    for name in asked:
        if name not in _FROM_RUNS + _FROM_WEIGHTS:
            raise errors.unknown("config.figures.which", name, _FROM_RUNS + _FROM_WEIGHTS)
    wanted = asked or _FROM_RUNS + _FROM_WEIGHTS
    results, trained = [], None
    if set(wanted) & set(_FROM_RUNS) and config.tables.workdirs:
        results = list(collecting.results(config.tables.workdirs))
    if set(wanted) & set(_FROM_WEIGHTS) and (asked or config.init_from):
        trained = load_trained(config)
    table_3 = functools.cache(lambda: _table_3(results))
    makers = {
        "figure2_left": lambda: _against(table_3(), "cost"),
        "figure2_right": lambda: _against_data(results),
        "figure3": lambda: _against(table_3(), "throughput"),
        "figure4": lambda: _permuted(results),
        "figure5": lambda: _hidden_units(trained, 3),
        "figure6": lambda: _hidden_units(trained, 2),
        "figure7": lambda: _stem_units(trained),
    }
    found = {}
    for name in wanted:
        try:
            found[name] = makers[name]()
        except Absent as error:
            if asked:
                raise
            print(f"{name} is left out: {error}", flush=True)
    return found, trained


def _table_3(results: Sequence[Result]) -> list[tuple[Row, dict[str, Cell], dict[str, str]]]:
    """(row, its cells, {column: kind of device that our number was measured on}) of table 3."""
    taken = {}
    if results:
        taken, unused = collecting.assigned(results, collecting.protocols())
        for line in unused:
            print(f"not in table 3: {line}")
    found = {folder: matching.merged(own) for folder, own in taken.items()}
    filled = []
    for row in rows.rows():
        if row.part == "table3":
            devices = {
                column: found[run.folder]["device_kind"]
                for run in row.runs
                for column in run.fills
                if run.folder in found
            }
            filled.append((row, tables.fill(row, found), devices))
    return filled


def _against(table: Sequence[tuple[Row, dict[str, Cell], dict[str, str]]], column: str) -> _Figure:
    """Table 3's accuracy on ImageNet against another of its columns."""
    points = []
    for row, cells, devices in table:
        size = "" if row.image_size == 224 else f" at {row.image_size}"
        like = {
            "label": f"{row.model}{size}",
            "family": row.model.partition("-")[0],
            "pretrained_on": row.pretrained_on,
        }
        x, accuracy = cells[column], cells["imagenet"]
        points.append(charts.Point(x.paper, accuracy.paper, **like))
        if x.ours is not None and accuracy.ours is not None:
            points.append(charts.Point(x.ours, accuracy.ours, ours=devices[column], **like))
    more = column == "throughput"
    return _Figure(
        lambda: charts.accuracy_against_cost(points, published.title(column), more_is_better=more),
        {
            "points_of_the_paper": sum(not point.ours for point in points),
            "points_of_ours": sum(bool(point.ours) for point in points),
        },
        [
            {
                "model": point.label,
                "pretrained_on": point.pretrained_on,
                "of": f"ours, {point.ours}" if point.ours else "paper",
                published.title(column): f"{point.x:g}",
                published.title("imagenet"): f"{point.accuracy:.2f}",
            }
            for point in points
        ],
    )


def _against_data(results: Sequence[Result]) -> _Figure:
    lines, measure = series.by_share(
        [_with_absolute_upstream(collecting.mark_altered(r)) for r in results]
    )
    return _Figure(
        lambda: charts.accuracy_against_data(lines, measure),
        {"lines": len(lines), "points": sum(len(line.x) for line in lines.values())},
        [
            {"model": model, "fraction": x} | numbers
            for model, line in lines.items()
            for x, numbers in _numbers(line, measure)
        ],
    )


def _with_absolute_upstream(result: Result) -> Result:
    """Makes a few-shot run's upstream path absolute; it may have been relative to this folder."""
    upstream = result.results["upstream"]
    if result.results["run"] != "fewshot" or upstream is None:
        return result
    path = str(workdir.open_workdir(upstream["path"]))
    changed = result.results | {"upstream": upstream | {"path": path}}
    return dataclasses.replace(result, results=changed)


def _permuted(results: Sequence[Result]) -> _Figure:
    curves, moves, size, measure = series.by_case(map(collecting.mark_altered, results), _log)
    photo, rng = load_sample_image("flower.jpg"), np.random.default_rng(0)
    crop = f"resize_small({max(size)})|central_crop"
    examples = {
        case: transforms.parse("|".join(filter(None, (crop, move))), size)(photo, rng)
        for case, move in moves.items()
    }
    return _Figure(
        lambda: charts.permutation_curves(examples, curves, measure),
        {"curves": len(curves)},
        [
            {"model": model, "case": case, "step": x} | numbers
            for (model, case), line in curves.items()
            for x, numbers in _numbers(line, measure)
        ],
    )


def _numbers(line: series.Curve, measure: str) -> Iterator[tuple[float, dict[str, str]]]:
    """(x, {mean, standard deviation over seeds}) of each point; a single seed has no deviation."""
    for x, mean, std in zip(line.x.tolist(), line.mean, line.std, strict=True):
        yield x, {f"{measure}, %": f"{mean:.2f}", "std": "" if np.isnan(std) else f"{std:.2f}"}


def _log(result: Result) -> list[dict]:
    file = epath.Path(result.path) / "metrics.jsonl"
    try:
        return [json.loads(line) for line in file.read_text().splitlines()]
    except (OSError, ValueError) as error:
        raise errors.BadInput(f"{file} cannot be read: {error}") from None


def _hidden_units(trained: Trained | None, blocks: int) -> _Figure:
    params = _params(trained)
    name, size = trained.card.model["name"], trained.card.image_size
    mlps = [block["token_mixing"] for block in _blocks(params) if "token_mixing" in block]
    if not mlps:
        raise Absent(
            f"{name} has no token-mixing MLPs, whose hidden units this figure shows: expected a "
            f"Mixer in config.init_from"
        )
    kernels = [np.asarray(mlp["Dense_0"]["kernel"], np.float32) for mlp in mlps[:blocks]]
    patch = trained.model.patch_size
    grid = size[0] // patch, size[1] // patch
    strange = [k.shape for k in kernels if k.ndim != 2 or k.shape[0] != grid[0] * grid[1]]
    if strange:
        raise Absent(
            f"{name} mixes tokens by kernels of shape {strange[0]}: expected one weight per unit "
            f"for each of {grid[0]} x {grid[1]} patches, shared by all channels"
        )
    title = f"{name} at {resolution(size)}: hidden units of token mixing"
    return _Figure(
        lambda: units.hidden_units(kernels, grid, title),
        {"blocks": len(kernels), "units": sum(kernel.shape[1] for kernel in kernels)},
    )


def _blocks(params: dict) -> list[dict]:
    """The Mixer blocks, first to last."""
    names = [name for name in params if name.startswith("MixerBlock_")]
    return [params[name] for name in sorted(names, key=lambda n: int(n.rpartition("_")[2]))]


def _stem_units(trained: Trained | None) -> _Figure:
    params = _params(trained)
    name = trained.card.model["name"]
    if "stem" not in params:
        raise Absent(f"{name} has no patch stem, whose units this figure shows")
    kernel = np.asarray(params["stem"]["kernel"], np.float32)
    title = f"{name}: units of the stem, {kernel.shape[0]} x {kernel.shape[1]} pixels"
    return _Figure(lambda: units.stem_units(kernel, title), {"units": kernel.shape[-1]})


def _params(trained: Trained | None) -> dict:
    if trained is None:
        raise Absent("it needs --config.init_from=NAME (a workdir, a file or a published name)")
    return trained.params


def _write(path: epath.Path, figure: _Figure) -> None:
    drawn = figure.draw()
    for ending in ("png", "svg"):
        with storage.write_whole(path.with_name(f"{path.name}.{ending}")) as file:
            style.save(drawn, file, ending)
    if figure.numbers:
        workdir.write_csv(path.with_name(f"{path.name}.csv"), figure.numbers)
