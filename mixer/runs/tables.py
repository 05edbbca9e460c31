"""`config.run="tables"`: the paper's tables beside what workdirs hold."""

import glob
import importlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
from etils import epath
from ml_collections import ConfigDict

from mixer import calls, errors, storage
from mixer.checkpoint import adapt
from mixer.models import registry
from mixer.paper import matching, rows, tables
from mixer.paper.matching import Result
from mixer.paper.rows import Row, Run
from mixer.runs import distributed, keys, workdir


@workdir.unless_complete
def run(config: ConfigDict, path: epath.Path, protocol: str) -> None:
    """Writes WORKDIR/tables.md, .csv and .tex, and says what was left out and what is missing.

    Raises:
      BadInput: a path without results, or two that would count twice; before anything is written.
    """
    results = list(_results(config.tables.workdirs))
    recipes = {run.folder: _recipe(run) for row in rows.rows() for run in row.runs}
    taken, unused = _assigned(results, recipes)
    found = {folder: matching.merged(own) for folder, own in taken.items()}
    workdir.begin(path, config)
    of_part = {}
    for row in rows.described():
        of_part.setdefault(row.part, []).append((row, _described(row)))
    for row in rows.rows():
        of_part.setdefault(row.part, []).append((row, tables.fill(row, found)))
    texts = {"tables.md": f"{tables.CAPTION}\n\n", "tables.csv": "", "tables.tex": ""}
    for part, filled in sorted(of_part.items(), key=lambda item: item[0].replace("figure", "z")):
        texts["tables.md"] += f"## {part}\n\n{tables.markdown(filled)}\n"
        texts["tables.tex"] += f"% {part}\n{tables.latex(filled)}\n"
        texts["tables.csv"] += tables.csv_text(filled)
    texts["tables.md"] += _notes(found, taken, unused, recipes)
    if distributed.index() == 0:
        for name, text in texts.items():
            with storage.write_whole(path / name) as file:
                file.write(text.encode())
    print(texts["tables.md"])
    numbers = {
        f"{row.part}/{row.label}/{column}": cell.ours
        for filled in of_part.values()
        for row, cells in filled
        for column, cell in cells.items()
        if cell.ours is not None
    }
    workdir.write_results(
        path,
        {"run": "tables", "protocol": protocol, "metrics": numbers},
        on_devices=False,
    )
    print(f"done: {path / 'tables.md'}, .csv, .tex", flush=True)


def _results(asked: str) -> Iterator[Result]:
    """Of each path or glob its own results.json, or else all below it."""
    if not asked:
        raise errors.BadInput("config.tables.workdirs is empty: give paths and globs, with commas")
    for given in asked.split(","):
        paths = [given]
        if not storage.is_remote(given):
            paths = sorted(glob.glob(given, recursive=True))
        found = [result for path in paths for result in _below(workdir.open_workdir(path))]
        if not found:
            raise errors.BadInput(
                f"config.tables.workdirs: {given!r} has no {workdir.RESULTS}, nor has a folder "
                f"below it: expected the workdir of a complete run, a folder of such, or a glob"
            )
        yield from found


def _below(path: epath.Path) -> Iterator[Result]:
    """A run's own results, not those of the trainings that it consists of."""
    results = workdir.read_json(path / workdir.RESULTS)
    config = workdir.read_json(path / workdir.CONFIG)
    if results and config and results["run"] not in ("reproduce", "tables"):
        yield Result(str(path), results, keys.flat(config))
        return
    if path.is_dir():
        for child in sorted(path.iterdir()):
            if child.is_dir() and child.name not in ("checkpoints", "profile"):
                yield from _below(child)


def _recipe(run: Run) -> dict[str, Any]:
    """The config that the run would have, "a.b": value."""
    config = importlib.import_module(f"configs.{run.recipe}").get_config(",".join(run.words))
    return keys.flat(keys.as_json(config)) | {k: _plain(v) for k, v in run.keys.items()}


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _assigned(
    results: Sequence[Result], recipes: Mapping[str, Mapping]
) -> tuple[dict[str, list[Result]], list[str]]:
    """By the folder of a run the results that are it; of the others why not, a line each.

    Raises:
      BadInput: two that would count one experiment twice.
    """
    taken, unused = {}, []
    for result in results:
        runs = [
            run
            for run in {r.folder: r for row in rows.rows() for r in row.runs}.values()
            if any(
                matching.is_of(result, row, run, recipes[run.folder])
                for row in rows.rows()
                if run in row.runs
            )
        ]
        fitting = [r for r in runs if not matching.differences(result, recipes[r.folder])]
        for run in fitting:
            taken.setdefault(run.folder, []).append(result)
        if not fitting and runs:
            other = matching.differences(result, recipes[runs[0].folder])
            unused.append(f"{result.path}: another protocol than {runs[0].folder}: {other[0]}")
        elif not fitting:
            what = result.results
            unused.append(
                f"{result.path}: no row's ({what['run']}, {what['model']}, {what['dataset']}, "
                f"{what['resolution']})"
            )
    for folder, own in taken.items():
        for one, other in matching.same_seed(own):
            raise errors.BadInput(
                f"{one.path} and {other.path} are both {folder} with seed "
                f"{one.results['seed']}: give one of them"
            )
    return taken, unused


def _described(row: Row) -> dict[str, tables.Cell]:
    """Of table 1 the registered model's sizes, of table 4 the recipe's values."""
    ours = _sizes(row.model) if row.part == "table1" else _trained_with(row)
    return {column: tables.Cell(paper, ours[column]) for column, paper in row.published.items()}


def _sizes(name: str) -> dict[str, float]:
    fields = registry.model_fields(name)
    patches = (224 // fields["patch_size"]) ** 2
    shapes = adapt.shapes(registry.create_model(name, num_classes=0), (224, 224))
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
    recipe, _, words = rows.recipe_of(row).partition(":")
    config = importlib.import_module(f"configs.{recipe}").get_config(words)
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


def _notes(
    found: Mapping[str, Mapping],
    taken: Mapping[str, list[Result]],
    unused: Sequence[str],
    recipes: Mapping[str, Mapping],
) -> str:
    """What was taken, on which device; what was not, and why; what is missing, by its command."""
    lines = ["", "Taken:", ""]
    for folder, own in taken.items():
        paths = ", ".join(result.path for result in own)
        lines.append(f"- {folder}: {paths} ({found[folder]['device_kind']})")
    if not taken:
        lines.append("- nothing")
    if unused:
        lines += ["", "Not taken:", "", *(f"- {line}" for line in unused)]
    lines += ["", "Missing, and the command of each:", ""]
    missing = {r.folder: r for row in rows.rows() for r in row.runs if r.folder not in found}
    for folder, run in missing.items():
        start = " --config.init_from=PRETRAINED" if run.after else ""
        keys_given = "".join(f" '--config.{key}={value}'" for key, value in run.keys.items())
        lines.append(
            f"- `python main.py --config=configs/{run.protocol.replace(':', '.py:', 1)}{start}"
            f"{keys_given} --workdir=RUNS/{folder}`"
        )
    return "\n".join(lines) + "\n"
