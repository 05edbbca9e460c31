"""`config.run="tables"`: the paper's tables beside the results in workdirs."""

import math
from collections.abc import Mapping, Sequence

import jax
from etils import epath
from ml_collections import ConfigDict

from mixer import calls, recipes
from mixer.models import registry
from mixer.paper import matching, published, rows, series, tables
from mixer.paper.matching import Result
from mixer.paper.rows import Row
from mixer.runs import collecting, workdir
from mixer.runs.results import Results
from mixer.weights import fitting


@workdir.unless_complete
def run(config: ConfigDict, path: epath.Path, protocol: str) -> None:
    """Writes WORKDIR/tables.md, .csv and .tex; lists which results were not used or are missing.

    Raises:
      BadInput: a path without results, or one that would count twice; before anything is written.
    """
    results = list(collecting.results(config.tables.workdirs))
    protocols = collecting.protocols()
    taken, unused = collecting.assigned(results, protocols)
    found = {folder: matching.merged(own) for folder, own in taken.items()}
    workdir.begin(path, config)
    of_part = {}
    for row in rows.described():
        of_part.setdefault(row.part, []).append((row, _described(row)))
    for row in rows.rows():
        of_part.setdefault(row.part, []).append((row, tables.fill(row, found)))
    parts = dict(sorted(of_part.items(), key=lambda item: item[0].replace("figure", "z")))
    ablated, measure = series.by_model(map(collecting.mark_altered, results))
    if ablated:
        parts["appendix_a"] = _ablations(ablated)
    texts = tables.texts(parts)
    texts["tables.md"] += f"Appendix A's accuracy: {measure}.\n" if ablated else ""
    texts["tables.md"] += _notes(found, taken, unused)
    collecting.write(path, texts)
    print(texts["tables.md"])
    metrics = {name: ours for name, ours in tables.metrics(parts).items() if ours is not None}
    workdir.write_results(
        path,
        Results(run="tables", protocol=protocol, metrics=metrics, device_kind=None, devices=None),
    )
    print(f"done: {path / 'tables.md'}, .csv, .tex", flush=True)


def _described(row: Row) -> dict[str, tables.Cell]:
    """Cells of table 1, from the registered model's sizes, or of table 4, from the recipe."""
    ours = _sizes(row.model) if row.part == "table1" else _trained_with(row)
    return {column: tables.Cell(paper, ours[column]) for column, paper in row.published.items()}


def _sizes(name: str) -> dict[str, float]:
    fields = registry.model_fields(name)
    patches = (224 // fields["patch_size"]) ** 2
    shapes = fitting.shapes(registry.create_model(name, num_classes=0), (224, 224))
    return {
        "layers": fields["num_blocks"],
        "patch": fields["patch_size"],
        "hidden_size_C": fields["hidden_dim"],
        "sequence_length_S": patches,
        "mlp_dim_DC": fields["channels_mlp_dim"],
        "mlp_dim_DS": fields["tokens_mlp_dim"],
        "params_millions_no_head": sum(x.size for x in jax.tree.leaves(shapes)) / 1e6,
    }


def _trained_with(row: Row) -> dict[str, float | None]:
    config = recipes.load(rows.recipe_of(row))
    calls_of = dict(calls.parse(call)[:2] for call in calls.split(config.input.transform))
    return {
        "epochs": float(config.total.split()[0]),
        "learning_rate": config.schedule.base,
        "weight_decay": config.optimizer.weight_decay,
        "randaugment": calls_of["randaug"][1] if "randaug" in calls_of else None,
        "mixup": config.mixup,
        "dropout": config.model.dropout,
        "stochastic_depth": config.model.stochastic_depth,
    }


def _ablations(found: Mapping[str, tuple[float, float]]) -> tables.Filled:
    """Appendix A, from each model's (accuracy, standard deviation); the plain Mixer comes first."""
    plain = next(iter(found.values()))[0]
    filled = []
    for model, (accuracy, deviation) in found.items():
        words = published.ablation(model.partition("-")[0])
        cells = {
            "accuracy": tables.Cell(None, accuracy, None if math.isnan(deviation) else deviation),
            "against_mixer": tables.Cell(words, accuracy - plain if words else None),
        }
        filled.append((Row("appendix_a", model, model, "", 0, 0, {}, ()), cells))
    return filled


def _notes(
    found: Mapping[str, Mapping],
    taken: Mapping[str, list[Result]],
    unused: Sequence[str],
) -> str:
    """Lists the results used, by device; those not used, and why; and commands still to run."""
    lines = ["", "Used:", ""]
    for folder, own in taken.items():
        paths = ", ".join(result.path for result in own)
        lines.append(f"- {folder}: {paths} ({found[folder]['device_kind']})")
    if not taken:
        lines.append("- nothing")
    if unused:
        lines += ["", "Not used:", "", *(f"- {line}" for line in unused)]
    lines += ["", "Missing runs, by command:", ""]
    missing = {r.folder: r for row in rows.rows() for r in row.runs if r.folder not in found}
    for folder, run in missing.items():
        lines.append(f"- `{run.command(f'RUNS/{folder}', 'PRETRAINED')}`")
    return "\n".join(lines) + "\n"
